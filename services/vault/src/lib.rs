//! Tokens, keys and sealing: the only place where identifiers become tokens and values are opened.
