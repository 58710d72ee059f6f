//! Whether the user namespace has the IDs that an image needs, before anything is written.

use std::fmt;
use std::fs;

/// IDs that an image needs and this user does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{kind} {id} is needed, and there are {have} {kind} IDs here\n\
     hint: {needed} subordinate IDs are needed. As root: usermod --add-sub{letter}ids 100000-{last} USER (a range that nobody \
     else has in /etc/sub{letter}id)",
    needed = self.id,
    letter = self.kind.letter(),
    last = 99_999 + u64::from(self.id)
)]
pub struct Shortage {
    kind: Kind,
    /// The highest one that is needed.
    id: u32,
    /// How many there are, from 0 on.
    have: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    User,
    Group,
}

impl Kind {
    const fn letter(self) -> char {
        match self {
            Self::User => 'u',
            Self::Group => 'g',
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Group => "group",
        })
    }
}

/// Checks users and groups against the maps of this process's user namespace.
pub fn check(
    uids: impl IntoIterator<Item = u32>,
    gids: impl IntoIterator<Item = u32>,
) -> Result<(), Shortage> {
    let map = |file: &str| fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    shortage(Kind::User, &map("uid_map"), uids)?;
    shortage(Kind::Group, &map("gid_map"), gids)
}

fn shortage(kind: Kind, map: &str, ids: impl IntoIterator<Item = u32>) -> Result<(), Shortage> {
    let ranges: Vec<(u64, u64)> = map
        .lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().map(|text| text.parse::<u64>().ok());
            Some((numbers.next()??, numbers.nth(1)??))
        })
        .collect();
    let mapped = |id: u64| ranges.iter().any(|(first, count)| id >= *first && id - first < *count);
    match ids.into_iter().filter(|id| !mapped((*id).into())).max() {
        Some(id) => Err(Shortage { kind, id, have: ranges.iter().map(|(_, count)| count).sum() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_counted() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(shortage(Kind::User, map, [0, 1, 33, 65_536]), Ok(()));
        let short = shortage(Kind::Group, map, [70_000, 5, 65_537]).unwrap_err();
        assert_eq!(
            short.to_string(),
            "group 70000 is needed, and there are 65537 group IDs here\n\
             hint: 70000 subordinate IDs are needed. As root: usermod --add-subgids 100000-169999 USER (a range that nobody \
             else has in /etc/subgid)"
        );
        assert!(shortage(Kind::User, "", [0]).is_err());
    }
}
