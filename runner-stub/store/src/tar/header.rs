//! One 512-byte tar header: V7, ustar and GNU (POSIX.1-1988; GNU tar manual, "Basic Tar Format").

/// A tar consists of blocks of this size.
pub(crate) const BLOCK: usize = 512;

/// The fields of a header, numbers decoded.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) type_flag: u8,
    pub(crate) name: Vec<u8>,
    pub(crate) link_name: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) size: u64,
    pub(crate) mtime: i64,
}

/// Decodes a header; the error is the reason. Device numbers are not looked at.
pub(crate) fn parse(block: &[u8; BLOCK]) -> Result<Header, &'static str> {
    let field = |start: usize, length: usize| &block[start..start + length];
    let sum: u64 = block[..148].iter().chain(&block[156..]).map(|&byte| u64::from(byte)).sum();
    if number(field(148, 8)).ok() != i64::try_from(sum + 8 * u64::from(b' ')).ok() {
        return Err("its checksum is wrong");
    }
    let positive = |start, length, reason| {
        number(field(start, length)).ok().and_then(|value| u64::try_from(value).ok()).ok_or(reason)
    };
    let mut name = text(field(0, 100)).to_vec();
    // GNU ("ustar  ") has other fields where ustar has a prefix.
    let prefix = text(field(345, 155));
    if field(257, 6) == b"ustar\0" && !prefix.is_empty() {
        name = [prefix, b"/", &name].concat();
    }
    Ok(Header {
        type_flag: block[156],
        name,
        link_name: text(field(157, 100)).to_vec(),
        mode: (positive(100, 8, "its mode is invalid")? & 0o7777) as u32,
        uid: positive(108, 8, "its user ID is invalid")?,
        gid: positive(116, 8, "its group ID is invalid")?,
        size: positive(124, 12, "its size is invalid")?,
        mtime: number(field(136, 12)).map_err(|()| "its time is invalid")?,
    })
}

/// Up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// An octal number, or with the highest bit set a big-endian binary one in two's complement.
fn number(field: &[u8]) -> Result<i64, ()> {
    if let [first, rest @ ..] = field
        && first & 0x80 != 0
    {
        let start = if first & 0x40 != 0 { -1 } else { 0 };
        let head = (start << 7) | i64::from(first & 0x7f);
        return rest
            .iter()
            .try_fold(head, |value, &byte| value.checked_mul(256).map(|value| value | i64::from(byte)))
            .ok_or(());
    }
    let digits = field.trim_ascii_start().split(|&byte| byte == 0 || byte == b' ').next().unwrap_or_default();
    digits.iter().try_fold(0_i64, |value, &byte| match byte {
        b'0'..=b'7' => value.checked_mul(8).map(|value| value | i64::from(byte - b'0')).ok_or(()),
        _ => Err(()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        for (field, expected) in [
            (&b"0000644\0"[..], Ok(0o644)),
            (b"   644 \0", Ok(0o644)),
            (b"\0\0\0\0\0\0\0\0", Ok(0)),
            (b"77777777", Ok(0o77_777_777)),
            (b"\x80\0\0\0\0\0\x01\0", Ok(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Ok(-2)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Ok(-1)),
            (b"\x81\0\0\0\0\0\0\0\0\0\0\0", Err(())),
            (b"12x\0", Err(())),
            (b"-1\0", Err(())),
        ] {
            assert_eq!(number(field), expected, "{field:?}");
        }
    }

    #[test]
    fn a_changed_header_is_noticed() {
        let mut header = tar::Header::new_ustar();
        header.set_path("a/b").unwrap();
        header.set_mode(0o4755);
        header.set_uid(7);
        header.set_gid(8);
        header.set_size(9);
        header.set_mtime(10);
        header.set_cksum();
        let mut block = *header.as_bytes();
        let parsed = parse(&block).unwrap();
        assert_eq!((parsed.mode, parsed.uid, parsed.gid, parsed.size, parsed.mtime), (0o4755, 7, 8, 9, 10));
        assert_eq!(parsed.name, b"a/b");
        block[0] ^= 1;
        assert_eq!(parse(&block).err(), Some("its checksum is wrong"));
    }
}
