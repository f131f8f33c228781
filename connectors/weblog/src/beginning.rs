//! What the first bytes of a file say about the rest: names lie, and what is taken for lines that it is not would be searched in vain.

/// First bytes of a gzip member (RFC 1952).
const GZIP: &[u8] = b"\x1f\x8b";
/// First bytes of archives that are not read: xz, bzip2, zstd, lz4, zip, compress.
const OTHERS: [&[u8]; 6] = [
    b"\xfd7zXZ\0",
    b"BZh",
    b"\x28\xb5\x2f\xfd",
    b"\x04\x22\x4d\x18",
    b"PK\x03\x04",
    b"\x1f\x9d",
];
/// Byte order marks of encodings with two or four bytes a letter (Unicode 23.8).
const MARKS: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];
/// Bytes by which an encoding without a mark is told: a name and an address in ASCII are longer.
const TOLD_BY_BYTES: usize = 16;

/// Why a live file is not read that its server packs as it writes.
pub(crate) const PACKED: &str = "the server packs it as it writes: expected a plain live file";

/// Whether a file that is not named so is packed with gzip.
pub(crate) fn is_gzip(first: &[u8]) -> bool {
    first.starts_with(GZIP)
}

/// Why the lines of a file cannot be read; `None` where they can.
pub(crate) fn unreadable(first: &[u8]) -> Option<&'static str> {
    if OTHERS.iter().any(|magic| first.starts_with(magic)) {
        Some("it is packed otherwise than with gzip")
    } else if MARKS.iter().any(|mark| first.starts_with(mark)) || has_wide_letters(first) {
        Some("its letters are of two bytes or more: expected ASCII or what contains it")
    } else {
        None
    }
}

/// Whether ASCII letters stand between zero bytes. Zeros in a row are none: a log that was emptied under its writer begins with many.
fn has_wide_letters(first: &[u8]) -> bool {
    let told = first.get(..TOLD_BY_BYTES).unwrap_or_default();
    let alternates = |zero: usize| {
        let mut pairs = told.chunks_exact(2);
        pairs.all(|pair| pair[zero] == 0 && pair[1 - zero] != 0)
    };
    !told.is_empty() && (alternates(0) || alternates(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_line_is_told_by_its_first_bytes() {
        let wide = |text: &str, low_first: bool| -> Vec<u8> {
            let bytes = |unit: u16| {
                if low_first {
                    unit.to_le_bytes()
                } else {
                    unit.to_be_bytes()
                }
            };
            text.encode_utf16().flat_map(bytes).collect()
        };
        let line = "192.0.2.7 - ada [26/Nov/2026:10:00:00 +0000]";
        for first in [
            wide(line, true),
            wide(line, false),
            wide(&format!("\u{feff}{line}"), true),
            b"\x28\xb5\x2f\xfd\x04".to_vec(),
            b"\xfd7zXZ\0\0".to_vec(),
        ] {
            assert!(unreadable(&first).is_some(), "{first:?}");
        }
        for first in [
            line.as_bytes(),
            b"",
            b"\xef\xbb\xbf192.0.2.7 - -",
            b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x00192.0.2.7",
            b"a\0b",
        ] {
            assert_eq!(unreadable(first), None, "{first:?}");
        }
        assert!(is_gzip(b"\x1f\x8b\x08"));
    }
}
