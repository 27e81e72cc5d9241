"""The judge: principal + operation → S3 and KMS actions → decision → audit."""
