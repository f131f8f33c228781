//! The HTTP API, the dashboard, and the client that the command line uses.
