//! All cases side by side: inputs in, effects out, no I/O and no clock. Pure.
