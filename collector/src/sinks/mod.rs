//! Where trails deliver: S3 or a directory.
