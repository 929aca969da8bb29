//! What is kept: Management unless configured otherwise; what is turned away is counted.
