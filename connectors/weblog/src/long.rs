//! Lines that are too long to hold: cut into pieces, each of which is read as a line of its own.
//!
//! A piece ends before a byte at which every identifier ends, wherever one is near. Where none is, the next piece begins so far back that whatever was
//! cut stands whole in one of the two, and a stopper at the cut keeps the other from reading the rest of it as something else. Each piece
//! carries the line's beginning up to the request, so that client, user and day are read with it; in the pieces every word counts as part of an address.

use crate::line;

/// How far pieces overlap where they are cut inside something: more than a value of 256 bytes of which each is percent-encoded four times over
/// and then escaped as `\xhh` (256 * 3^4 * 4).
const OVERLAP_BYTES: usize = 1 << 17;
/// Longer than any e-mail address and any other value.
const STOPPER: [u8; 300] = [b'x'; 300];
/// Longest beginning of a line, up to its request, that is carried from piece to piece.
const HEAD_BYTES_MAX: usize = 4_096;

/// Cuts one line.
pub(crate) struct Cutter {
    /// What stands before the request, where the line fits a format so far.
    head: Option<Vec<u8>>,
    first: bool,
    /// Whether the next piece begins inside something.
    inside: bool,
}

impl Cutter {
    /// For a line that begins so.
    pub(crate) fn new(begin: &[u8]) -> Self {
        let head = begin[..begin.len().min(HEAD_BYTES_MAX)]
            .split(|b| *b == b'"')
            .next()
            .filter(|head| line::parse(&[head, b"\"GET / HTTP/1.1\" 200 0".as_slice()].concat()).is_some());
        Self {
            head: head.map(<[u8]>::to_vec),
            first: true,
            inside: false,
        }
    }

    /// The next piece out of what follows, as a line, and where the piece after it begins.
    pub(crate) fn piece(&mut self, bytes: &[u8], last: bool) -> (Vec<u8>, usize) {
        let (end, next, cut) = if last {
            (bytes.len(), bytes.len(), false)
        } else {
            let near = bytes.len().saturating_sub(OVERLAP_BYTES).max(1);
            let ends = |b: &u8| matches!(b, b' ' | b'&' | b'?' | b';' | b'#');
            match bytes.get(near..).and_then(|tail| tail.iter().rposition(ends)) {
                Some(place) => (near + place, near + place, false),
                None => (bytes.len(), near, true),
            }
        };
        let mut out = Vec::with_capacity(end + HEAD_BYTES_MAX);
        match &self.head {
            Some(head) => {
                out.extend_from_slice(head);
                out.push(b'"');
                let body = if self.first {
                    &bytes[(head.len() + 1).min(end)..end]
                } else {
                    out.extend_from_slice(b"GET /?");
                    out.extend(STOPPER.iter().filter(|_| self.inside));
                    &bytes[..end]
                };
                address(body, self.first, &mut out);
                out.extend(STOPPER.iter().filter(|_| cut));
                out.extend_from_slice(b"?\" 200 0");
            }
            None => {
                out.extend(STOPPER.iter().filter(|_| self.inside));
                out.extend_from_slice(&bytes[..end]);
                out.extend(STOPPER.iter().filter(|_| cut));
            }
        }
        (self.first, self.inside) = (false, cut);
        (out, next)
    }
}

/// Writes a piece as one address: blanks and bare quotes, which would end it, become the mark before a parameter. The first blank stays where it ends the method.
fn address(body: &[u8], with_method: bool, out: &mut Vec<u8>) {
    let (mut method, mut escaped) = (with_method, false);
    for byte in body {
        let ends = *byte == b' ' || *byte == b'"' && !escaped;
        if ends && !(method && *byte == b' ') {
            out.push(b'?');
        } else {
            out.push(*byte);
        }
        method &= !ends;
        escaped = !escaped && *byte == b'\\';
    }
}
