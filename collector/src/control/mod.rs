//! What operators set: trails, access keys, tokens, agents.
