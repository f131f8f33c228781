//! Kill, cut, lie: what happens when things go wrong.
