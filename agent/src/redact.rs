//! Masks secrets in command lines and parameters.
