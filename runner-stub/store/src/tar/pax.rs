//! PAX extended headers: `length key=value\n` records that override fields of the next header (POSIX.1-2001, pax).

/// What the records of one extended header say.
#[derive(Debug, Default)]
pub(crate) struct Pax {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link_path: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<Time>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Seconds since 1970 and nanoseconds below 10^9, counted forwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// The kernel's limit on the name of an extended attribute (xattr(7)).
const MAX_XATTR_NAME: usize = 255;
/// The kernel's limit on the value of an extended attribute.
const MAX_XATTR_VALUE: usize = 64 << 10;

/// Decodes the records; the error is the reason. Unknown keys are passed over, except those of sparse files, which would
/// make the body something else than the file's content.
pub(crate) fn parse(mut records: &[u8]) -> Result<Pax, &'static str> {
    let mut pax = Pax::default();
    while !records.is_empty() {
        let (record, rest) = split_record(records).ok_or("its extended header is malformed")?;
        records = rest;
        let equals =
            record.iter().position(|&byte| byte == b'=').ok_or("its extended header is malformed")?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let string = || {
            if value.contains(&0) { Err("its name has a NUL byte") } else { Ok(Some(value.to_vec())) }
        };
        match key {
            b"path" => pax.path = string()?,
            b"linkpath" => pax.link_path = string()?,
            b"size" => pax.size = Some(integer(value).ok_or("its size is invalid")?),
            b"uid" => pax.uid = Some(integer(value).ok_or("its user ID is invalid")?),
            b"gid" => pax.gid = Some(integer(value).ok_or("its group ID is invalid")?),
            b"mtime" => pax.mtime = Some(time(value).ok_or("its time is invalid")?),
            _ if key.starts_with(b"GNU.sparse.") => return Err("sparse entries are not supported"),
            _ => {
                let Some(name) = key.strip_prefix(b"SCHILY.xattr.") else { continue };
                if name.is_empty() || name.contains(&0) || name.len() > MAX_XATTR_NAME {
                    return Err("the name of an extended attribute is invalid");
                }
                if value.len() > MAX_XATTR_VALUE {
                    return Err("an extended attribute is too long");
                }
                pax.xattrs.retain(|(other, _)| other != name);
                pax.xattrs.push((name.to_vec(), value.to_vec()));
            }
        }
    }
    Ok(pax)
}

/// The first record without its length and line end, and what follows it.
fn split_record(records: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = records.iter().take(20).position(|&byte| byte == b' ')?;
    let length = usize::try_from(integer(&records[..space])?).ok()?;
    let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
    Some((record, &records[length..]))
}

fn integer(digits: &[u8]) -> Option<u64> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    plain.then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
}

/// `[-]seconds[.fraction]`; digits beyond nanoseconds are cut off.
fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |&byte| byte == b'.');
    let seconds = i64::try_from(integer(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds },
        (true, _) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
    }

    #[test]
    fn records_override_fields_and_the_last_one_wins() {
        let records = [
            record("path", b"one"),
            record("path", "zwölf".as_bytes()),
            record("size", b"18446744073709551615"),
            record("mtime", b"-1.25"),
            record("comment", b"x=y"),
            record("SCHILY.xattr.user.a", b"\0\n="),
        ]
        .concat();
        let pax = parse(&records).unwrap();
        assert_eq!(pax.path.as_deref(), Some("zwölf".as_bytes()));
        assert_eq!(pax.size, Some(u64::MAX));
        assert_eq!(pax.mtime, Some(Time { seconds: -2, nanoseconds: 750_000_000 }));
        assert_eq!(pax.xattrs, [(b"user.a".to_vec(), b"\0\n=".to_vec())]);
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            &b"5"[..],
            b"x a=b\n",
            b"6 a=b",
            b"7 a=bcd\n",
            b"999999999999999999999999 a=b\n",
            b"18446744073709551615 a=b\n",
            b"0 a=b\n",
            b"1 ",
            b"5 ab\n",
            b"\0\0\0",
        ] {
            assert_eq!(parse(bad).err(), Some("its extended header is malformed"), "{bad:?}");
        }
        assert!(parse(&record("path", b"a\0b")).is_err());
        assert!(parse(&record("size", b"-1")).is_err());
        assert!(parse(&record("mtime", b"now")).is_err());
        assert!(parse(&record("GNU.sparse.major", b"1")).is_err());
    }

    #[test]
    fn times() {
        for (text, seconds, nanoseconds) in [
            ("0", 0, 0),
            ("1.5", 1, 500_000_000),
            ("1.0000000019", 1, 1),
            ("-0.5", -1, 500_000_000),
            ("-3", -3, 0),
        ] {
            assert_eq!(time(text.as_bytes()), Some(Time { seconds, nanoseconds }), "{text}");
        }
    }
}
