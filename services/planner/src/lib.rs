//! From a walk to a frozen plan without choices left, and the linter that checks it. Pure.
