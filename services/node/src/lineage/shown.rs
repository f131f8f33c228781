//! What a question shows, and its answer, so that each side knows the other as a process of the installation. The key itself is never sent: whoever
//! took the place of an owner learns nothing from a question but the question, and can answer none.

use lethe_terms::Timestamp;
use lethe_vault::InternalKey;

use crate::shell;

/// In front of what a question shows, in its header `authorization`.
pub(super) const SCHEME: &str = "Lethe ";

/// The header of what an answer shows.
pub(super) const ANSWER: &str = "lethe-answer";

/// How old a question may be, or ahead, in milliseconds: whoever heard one cannot ask it again later. Processes of an installation share a
/// machine, and so a clock.
const AGE_MS_MAX: u64 = 60_000;

/// What codes are made for: of the body of a question, of its head, of its answer.
const OF_BODY: &str = "question body/v1";
const OF_HEAD: &str = "question/v1";
const OF_ANSWER: &str = "answer/v1";

/// What a question to this URL shows: when it is asked, a number that no other question has, the code of its body, and that of all this.
pub(super) fn by_question(key: &InternalKey, url: &str, body: &[u8], now: Timestamp) -> String {
    let once = hex::encode(shell::random::<16>());
    let head = format!("{}.{once}.{}", now.millis(), key.mac(OF_BODY, [body]));
    let mac = key.mac(OF_HEAD, [url.as_bytes(), head.as_bytes()]);
    format!("{head}.{mac}")
}

/// Whether somebody of the installation asks this now, at this URL; nothing of the body is needed for that.
pub(super) fn is_asked(key: &InternalKey, url: &str, shown: &str, now: Timestamp) -> bool {
    let Some((head, mac)) = shown.rsplit_once('.') else {
        return false;
    };
    let at = head.split('.').next().and_then(|at| at.parse::<i64>().ok());
    let is_of_now = at.is_some_and(|at| now.millis().abs_diff(at) <= AGE_MS_MAX);
    key.is_mac(mac, OF_HEAD, [url.as_bytes(), head.as_bytes()]) && is_of_now
}

/// Whether that is the body of what was asked.
pub(super) fn is_body(key: &InternalKey, shown: &str, body: &[u8]) -> bool {
    let mac = shown.split('.').nth(2);
    mac.is_some_and(|mac| key.is_mac(mac, OF_BODY, [body]))
}

/// What the answer to a question shows.
pub(super) fn by_answer(key: &InternalKey, question: &str, answer: &[u8]) -> String {
    key.mac(OF_ANSWER, [question.as_bytes(), answer])
}

/// Whether that is the answer of somebody of the installation to this question.
pub(super) fn is_answer(key: &InternalKey, question: &str, answer: &[u8], shown: &[u8]) -> bool {
    let shown = std::str::from_utf8(shown).unwrap_or_default();
    key.is_mac(shown, OF_ANSWER, [question.as_bytes(), answer])
}

#[cfg(test)]
mod tests {
    use lethe_vault::TokenKeys;

    use super::*;

    #[test]
    fn a_question_is_of_one_place_and_of_now() {
        let key = TokenKeys::new(&[1; 32], &[2; 32]).internal();
        let (url, now) = ("http://127.0.0.1:7381/partitions/3/stand", shell::now());
        let shown = by_question(&key, url, b"a question", now);
        let is_asked = |url: &str, after| is_asked(&key, url, &shown, now.plus_millis(after));
        assert!(is_asked(url, 0) && is_asked(url, 59_000) && is_asked(url, -59_000));
        assert!(!is_asked(url, 61_000) && !is_asked(url, -61_000));
        assert!(!is_asked("http://127.0.0.1:7382/partitions/3/stand", 0));
        assert!(is_body(&key, &shown, b"a question"));
        assert!(!is_body(&key, &shown, b"another"));
    }

    #[test]
    fn an_answer_is_of_one_question() {
        let key = TokenKeys::new(&[1; 32], &[2; 32]).internal();
        let ask = || by_question(&key, "http://127.0.0.1:7381", b"a question", shell::now());
        let (question, again) = (ask(), ask());
        let shown = by_answer(&key, &question, b"nothing");
        assert!(is_answer(&key, &question, b"nothing", shown.as_bytes()));
        assert!(
            !is_answer(&key, &again, b"nothing", shown.as_bytes()),
            "the same, later"
        );
        assert!(!is_answer(&key, &question, b"something", shown.as_bytes()));
        assert!(!is_answer(&key, &question, b"nothing", b""));
    }
}
