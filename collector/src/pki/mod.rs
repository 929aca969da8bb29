//! Who may connect: the built-in CA, join tokens, certificates, receipt keys.
