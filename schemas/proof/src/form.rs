//! The forms that texts inside a statement have: closed enough that no free text, and so nothing personal, slips in unseen.

/// Steps, receipts and observations in one certificate: a company with more datasets splits its cases; a hostile file does not keep a verifier busy.
pub(crate) const STEPS_MAX: usize = 10_000;

/// Limits, reasons and copies in one certificate.
pub const LIST_MAX: usize = 1_000;

/// Longest name in a statement, in bytes.
const TEXT_BYTES_MAX: usize = 200;

/// Longest code in a statement, in bytes.
const CODE_BYTES_MAX: usize = 64;

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// 128 bits in hexadecimal.
pub(crate) fn is_nonce(text: &str) -> bool {
    is_hex(text, 32)
}

/// 256 bits in hexadecimal.
pub(crate) fn is_commitment(text: &str) -> bool {
    is_hex(text, 64)
}

/// `sha256:<hex>`.
pub(crate) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|digits| is_hex(digits, 64))
}

/// A code such as `17-1-b` or `casework-contradicted`.
pub(crate) fn is_code(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= CODE_BYTES_MAX
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// A name on one line, such as a legal name or a norm.
pub(crate) fn is_text(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control)
}

/// A name that may be empty.
pub(crate) fn is_optional_text(text: &str) -> bool {
    text.is_empty() || is_text(text)
}
