//! Web-server logs of nginx and Apache as a system of personal data.
