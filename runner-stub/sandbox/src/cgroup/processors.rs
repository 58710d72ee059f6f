//! Lists of processors as the kernel writes them: `0-3,8` (cpuset(7), "List format").

/// Whether all processors of a list are among those of another. A list that makes no sense is not.
pub(super) fn are_among(wanted: &str, there: &str) -> bool {
    let (Some(wanted), Some(there)) = (ranges(wanted), ranges(there)) else { return false };
    let is_there = |number: u32| there.iter().any(|(first, last)| (*first..=*last).contains(&number));
    wanted.into_iter().all(|(first, last)| (first..=last).all(is_there))
}

/// First and last of each range. More processors than Linux can have are no list of processors.
fn ranges(list: &str) -> Option<Vec<(u32, u32)>> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first <= last && last < 65_536).then_some((first, last))
    };
    list.trim().split(',').map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_among_another() {
        for (wanted, there, expected) in [
            ("0", "0-3", true),
            ("0-1,3", "0-3\n", true),
            ("2-5", "0-3,4-7", true),
            ("0,4", "0-3", false),
            ("3-1", "0-3", false),
            ("a", "0-3", false),
            ("0-4000000000", "0-3", false),
        ] {
            assert_eq!(are_among(wanted, there), expected, "{wanted} among {there}");
        }
    }
}
