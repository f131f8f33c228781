//! `schemas/json/openapi.json` says what the server serves. `UPDATE_SCHEMAS=1 cargo test -p lethe-gateway --test http openapi` writes it.

use std::path::PathBuf;

use lethe_gateway::openapi;

#[test]
fn the_committed_openapi_document_is_current() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../schemas/json/openapi.json");
    let text = format!("{:#}\n", openapi());
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "schemas/json/openapi.json is not current; UPDATE_SCHEMAS=1 writes it"
    );
}
