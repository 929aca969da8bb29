//! The configuration: the file's shape, then the validated one.
