//! As much of a tar header as is needed to tell where file bodies begin and end.
//!
//! A misunderstanding costs compression, never correctness: whatever is no body is skeleton, and both come back.

/// Bytes of a tar block.
pub(super) const BLOCK: usize = 512;

/// What a header says of the bytes that follow.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) size: u64,
    pub(super) path: Vec<u8>,
}

/// Sorts of entries, by what follows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A body.
    File,
    /// Old GNU sparse file whose map goes on in further blocks before the body.
    SparseExtended,
    /// Nothing, whatever the size field says (POSIX: links, devices, directories, FIFOs).
    Bare,
    /// PAX records for the next entry.
    Pax,
    /// Long path of the next entry.
    LongName,
    /// Other metadata: global PAX records, long link targets.
    Metadata,
}

impl Header {
    /// Parses a block; `None` where the checksum does not hold.
    pub(super) fn parse(block: &[u8; BLOCK]) -> Option<Self> {
        let sum: u64 =
            (0..).zip(block).map(|(i, &c)| if (148..156).contains(&i) { 32 } else { u64::from(c) }).sum();
        if number(&block[148..156]) != Some(sum) {
            return None;
        }
        let ustar = &block[257..262] == b"ustar";
        let gnu = ustar && block[262] == b' ';
        let kind = match block[156] {
            b'1'..=b'6' => Kind::Bare,
            b'x' => Kind::Pax,
            b'L' => Kind::LongName,
            b'g' | b'K' => Kind::Metadata,
            b'S' if gnu && block[482] != 0 => Kind::SparseExtended,
            _ => Kind::File,
        };
        let mut path = Vec::new();
        if ustar && !gnu && block[345] != 0 {
            path.extend_from_slice(text(&block[345..500]));
            path.push(b'/');
        }
        path.extend_from_slice(text(&block[..100]));
        Some(Self { kind, size: number(&block[124..136])?, path })
    }
}

/// Up to the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|&c| c == 0).next().unwrap_or_default()
}

/// Octal with padding, or GNU's base-256 (high bit set).
fn number(field: &[u8]) -> Option<u64> {
    if field.first().is_some_and(|&c| c & 0x80 != 0) {
        let (high, low) = field.split_at(field.len().saturating_sub(8));
        let high_is_zero =
            high.split_first().is_some_and(|(&c, rest)| c == 0x80 && rest.iter().all(|&c| c == 0));
        return (high_is_zero && !low.is_empty()).then(|| low.iter().fold(0, |n, &c| n << 8 | u64::from(c)));
    }
    let digits = text(field).trim_ascii();
    digits.iter().try_fold(0_u64, |n, &c| match c {
        b'0'..=b'7' => n.checked_mul(8)?.checked_add(u64::from(c - b'0')),
        _ => None,
    })
}

/// Path and size that PAX records give to the next entry (POSIX pax, "pax Extended Header": `length key=value\n`).
pub(super) fn pax_overrides(records: &[u8]) -> (Option<Vec<u8>>, Option<u64>) {
    let (mut path, mut size) = (None, None);
    let mut rest = records;
    while let Some(space) = rest.iter().position(|&c| c == b' ') {
        let length = std::str::from_utf8(&rest[..space]).ok().and_then(|text| text.parse::<usize>().ok());
        let Some(record) = length.and_then(|length| rest.get(space + 1..length)) else { break };
        rest = &rest[space + 1 + record.len()..];
        let record = record.strip_suffix(b"\n").unwrap_or(record);
        if let Some(value) = record.strip_prefix(b"path=") {
            path = Some(value.to_vec());
        } else if let Some(value) = record.strip_prefix(b"size=") {
            size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        }
    }
    (path, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_all_spellings() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"77777777777\0"), Some(0o77777777777));
        assert_eq!(number(b"\x80\0\0\0\0\0\0\x02\0\0\0\0"), Some(2 << 32));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
        assert_eq!(number(b"12x\0"), None);
    }

    #[test]
    fn pax_records_override_and_nonsense_is_ignored() {
        assert_eq!(pax_overrides(b"12 path=a/b\n15 size=999999\n"), (Some(b"a/b".to_vec()), Some(999_999)),);
        for bad in
            [&b""[..], b"x", b"0 ", b"3 ", b"99 path=a\n", b"-1 path=a\n", b"18446744073709551615 a=b\n"]
        {
            assert_eq!(pax_overrides(bad), (None, None));
        }
    }
}
