//! Tokens of SASL/OAUTHBEARER, from a file that somebody else renews.
//!
//! librdkafka asks for a token in a client's main queue, and rdkafka answers where that queue is polled. A client for topics, or for a few
//! questions, never is: it is given its token when it is made.

use std::ffi::{CStr, CString, c_char};
use std::path::Path;
use std::ptr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::bindings::{rd_kafka_oauthbearer_set_token, rd_kafka_resp_err_t};
use rdkafka::client::{Client, ClientContext, OAuthToken};

use crate::Error;

/// How long a token from a file is used before the file is read again. librdkafka asks after four fifths of it.
const TOKEN_LIFE: Duration = Duration::from_mins(5);

/// Most bytes of librdkafka's reason why it takes no token.
const REASON_BYTES_MAX: usize = 512;

/// The token that stands in a file now.
pub(crate) fn read(file: &Path) -> Result<OAuthToken, Error> {
    let token = std::fs::read_to_string(file).map_err(|error| {
        Error::Settings(format!(
            "the file of the token, {}, cannot be read: {error}",
            file.display()
        ))
    })?;
    let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + TOKEN_LIFE;
    Ok(OAuthToken {
        token: token.trim().to_owned(),
        // Kafka goes by what the token says.
        principal_name: String::new(),
        lifetime_ms: i64::try_from(until.as_millis()).unwrap_or(i64::MAX),
    })
}

/// Gives a client its token.
#[expect(unsafe_code, reason = "rdkafka has no call for it that is safe")]
pub(crate) fn give<C: ClientContext>(client: &Client<C>, token: OAuthToken) -> Result<(), Error> {
    let no_text = |_| Error::Settings("the token holds a zero byte".to_owned());
    let value = CString::new(token.token).map_err(no_text)?;
    let principal = CString::new(token.principal_name).map_err(no_text)?;
    let mut reason: [c_char; REASON_BYTES_MAX] = [0; REASON_BYTES_MAX];
    // SAFETY: the client lives as long as its borrow, librdkafka copies both strings, and ends a reason with a zero within its length.
    let (code, reason) = unsafe {
        let code = rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            value.as_ptr(),
            token.lifetime_ms,
            principal.as_ptr(),
            ptr::null_mut(),
            0,
            reason.as_mut_ptr(),
            reason.len(),
        );
        (code, CStr::from_ptr(reason.as_ptr()))
    };
    if code == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    let reason = reason.to_string_lossy();
    Err(Error::Settings(format!(
        "the token of OAUTHBEARER is not taken: {reason}"
    )))
}
