-- What becomes of the files that suppliers put: the second of the two files that define a gateway.
--
-- It is plain Snowflake SQL. `feedgate up` runs it on DuckDB, in the data folder, pipes included;
-- `feedgate deploy` runs the same bytes on Snowflake. An ampersand with a name in braces stands for
-- an output or a parameter of the template, as SnowSQL's variable substitution does, so that no
-- bucket and no account is named here.


-- 1. Where rows go ---------------------------------------------------------------------------------
-- Creating a database or a schema makes it the current one, so later names need no prefix.

CREATE DATABASE IF NOT EXISTS landing;
CREATE SCHEMA IF NOT EXISTS landing.raw;

CREATE TABLE IF NOT EXISTS orders (
    order_id    NUMBER(12,0)    NOT NULL,   -- a file with an empty order_id is not loaded: see ON_ERROR
    customer    VARCHAR(100),               -- a longer name is an error, not a shorter name
    amount      NUMBER(12,2),               -- rounded half away from zero
    ordered_at  TIMESTAMP_NTZ,
    priority    BOOLEAN                     -- true, yes, on, 1, … as Snowflake reads them
);

CREATE TABLE IF NOT EXISTS events (
    event_id     VARCHAR(36)    NOT NULL,
    occurred_at  TIMESTAMP_NTZ,
    kind         VARCHAR(50),
    amount       NUMBER(12,2),
    payload      VARIANT,                   -- the whole JSON object, for what has no column yet
    file_name    VARCHAR,                   -- which file, and which line of it: lineage in the row
    file_row     NUMBER(12,0)
);


-- 2. How bytes are read ----------------------------------------------------------------------------
-- Every option that is not said has Snowflake's default.

CREATE FILE FORMAT IF NOT EXISTS csv_with_header
    TYPE = CSV
    SKIP_HEADER = 1
    FIELD_OPTIONALLY_ENCLOSED_BY = '"'
    ESCAPE_UNENCLOSED_FIELD = NONE          -- by default a line ending in a backslash joins the next
    NULL_IF = ('', '\\N');

CREATE FILE FORMAT IF NOT EXISTS json_lines
    TYPE = JSON;                            -- one object a line; gzip is noticed by itself


-- 3. Who may read the bucket -----------------------------------------------------------------------
-- The storage integration names the role that reads the landing bucket, and where it may look. The
-- role, its trust and its policies are in the template; the loader is judged by them on a laptop too.
-- IF NOT EXISTS matters on Snowflake: replacing an integration gives it a new external id.

CREATE STORAGE INTEGRATION IF NOT EXISTS landing_int
    TYPE = EXTERNAL_STAGE
    STORAGE_PROVIDER = 'S3'
    ENABLED = TRUE
    STORAGE_AWS_ROLE_ARN = '&{SnowflakeRoleArn}'
    STORAGE_ALLOWED_LOCATIONS = ('s3://&{LandingBucketName}/');


-- 4. Where files land ------------------------------------------------------------------------------
-- The user jeffrey_aven has the home directory mapping / -> /bucket/jeffrey_aven, so his
-- `put orders.csv /orders/` makes the object jeffrey_aven/orders/orders.csv.
-- A stage URL is a prefix of names: without the slash at its end it would cover orders_old/ too.

CREATE STAGE IF NOT EXISTS orders_stage
    URL = 's3://&{LandingBucketName}/jeffrey_aven/orders/'
    STORAGE_INTEGRATION = landing_int
    FILE_FORMAT = (FORMAT_NAME = csv_with_header);

CREATE STAGE IF NOT EXISTS events_stage
    URL = 's3://&{LandingBucketName}/jeffrey_aven/events/'
    STORAGE_INTEGRATION = landing_int
    FILE_FORMAT = (FORMAT_NAME = json_lines);


-- 5. From files to rows ----------------------------------------------------------------------------
-- Each file is offered to a pipe once, when it has landed: AUTO_INGEST. IF NOT EXISTS matters here
-- too: a pipe that is replaced on Snowflake forgets what it has loaded.

-- Field by field. ON_ERROR is left at a pipe's default, SKIP_FILE: one bad line and none of the
-- file's rows are loaded; `feedgate receipts` names the line, the column and the reason.
CREATE PIPE IF NOT EXISTS orders_pipe
    AUTO_INGEST = TRUE
    COMMENT = 'orders as CSV with a header'
AS
COPY INTO orders
    FROM @orders_stage
    PATTERN = '.*[.]csv([.]gz)?';

-- Value by value. $1 is the JSON object, a colon goes into it, two colons cast. CONTINUE loads the
-- good lines and reports the bad ones.
CREATE PIPE IF NOT EXISTS events_pipe
    AUTO_INGEST = TRUE
    COMMENT = 'events as JSON lines'
AS
COPY INTO events (event_id, occurred_at, kind, amount, payload, file_name, file_row)
    FROM (
        SELECT
            $1:id::VARCHAR,
            $1:at::TIMESTAMP_NTZ,
            UPPER(TRIM($1:kind::VARCHAR)),
            $1:detail.amount::NUMBER(12,2),
            $1,
            METADATA$FILENAME,
            METADATA$FILE_ROW_NUMBER
        FROM @events_stage
    )
    PATTERN = '.*[.](json|ndjson)([.]gz)?'
    ON_ERROR = CONTINUE;
