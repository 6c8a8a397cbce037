"""Create the bucket in the S3 store, unless it exists."""

import os

import boto3
from botocore.exceptions import ClientError


def main() -> None:
    store = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    name = os.environ["STORE_BUCKET"]
    try:
        store.head_bucket(Bucket=name)
        print(f"The bucket {name} exists.")
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
            raise
        store.create_bucket(Bucket=name)
        print(f"Created the bucket {name}.")


if __name__ == "__main__":
    main()
