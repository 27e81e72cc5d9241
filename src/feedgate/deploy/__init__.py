"""What concerns AWS itself: cfn-lint now, change sets later."""
