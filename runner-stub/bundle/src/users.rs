//! `user:` looked up in the image's `/etc/passwd` and `/etc/group`, by the rules of moby's `user.GetExecUser`.
//!
//! A number is always an ID, also when a user of that name exists, and needs no entry. A name needs one. Supplementary groups
//! are those that list the user's name, and only when no group is named. Lines that make no sense are passed over.

/// The texts of the two files of the image's root file system; empty where a file is missing.
#[derive(Clone, Copy, Debug, Default)]
pub struct UserDatabase<'a> {
    /// `/etc/passwd`.
    pub passwd: &'a str,
    /// `/etc/group`.
    pub group: &'a str,
}

/// Who the process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedUser {
    /// User ID.
    pub uid: u32,
    /// Primary group ID.
    pub gid: u32,
    /// Supplementary groups; the primary one comes first (as in Docker since CVE-2022-36109).
    pub groups: Vec<u32>,
    /// Home directory; `/` for a user without an entry.
    pub home: String,
}

/// Why a user cannot be had.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UserError {
    /// The name has no entry.
    #[error("unable to find user {0}: no matching entries in passwd file of the image")]
    NoUser(String),
    /// The group has no entry.
    #[error("unable to find group {0}: no matching entries in group file of the image")]
    NoGroup(String),
    /// A number is too large.
    #[error("user `{0}`: uids and gids must be in range 0-2147483647")]
    Range(String),
}

/// Looks up `user[:group]`; empty means root.
pub fn resolve(spec: &str, database: UserDatabase<'_>) -> Result<ResolvedUser, UserError> {
    let (user, group) = spec.split_once(':').unwrap_or((spec, ""));
    let wanted = if user.is_empty() { Some(0) } else { number(user) };
    let entry = database.passwd.lines().filter_map(passwd_entry).find(|entry| match wanted {
        Some(uid) => entry.uid == uid,
        None => entry.name == user,
    });
    let mut resolved = match (&entry, wanted) {
        (Some(entry), _) => ResolvedUser {
            uid: id(entry.uid, spec)?,
            gid: id(entry.gid, spec)?,
            groups: vec![],
            home: entry.home.to_owned(),
        },
        (None, Some(uid)) => {
            ResolvedUser { uid: id(uid, spec)?, gid: 0, groups: vec![], home: "/".to_owned() }
        }
        (None, None) => return Err(UserError::NoUser(user.to_owned())),
    };
    let mut supplementary = Vec::new();
    let mut groups = database.group.lines().filter_map(group_entry);
    if !group.is_empty() {
        let wanted = number(group);
        let found = groups.find(|entry| match wanted {
            Some(gid) => entry.gid == gid,
            None => entry.name == group,
        });
        resolved.gid = match (found.map(|entry| entry.gid).or(wanted), wanted) {
            (Some(gid), _) => id(gid, spec)?,
            (None, _) => return Err(UserError::NoGroup(group.to_owned())),
        };
    } else if let Some(user) = &entry {
        for member_of in groups.filter(|entry| entry.members.split(',').any(|member| member == user.name)) {
            supplementary.push(id(member_of.gid, spec)?);
        }
    }
    resolved.groups = vec![resolved.gid];
    for gid in supplementary {
        if !resolved.groups.contains(&gid) {
            resolved.groups.push(gid);
        }
    }
    Ok(resolved)
}

/// A group of `group_add`: a number, or a name that the image knows.
pub fn group(spec: &str, database: UserDatabase<'_>) -> Result<u32, UserError> {
    if let Some(gid) = number(spec) {
        return id(gid, spec);
    }
    let found = database.group.lines().filter_map(group_entry).find(|entry| entry.name == spec);
    found.map_or_else(|| Err(UserError::NoGroup(spec.to_owned())), |entry| id(entry.gid, spec))
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u64,
    gid: u64,
    home: &'a str,
}

/// `name:password:uid:gid:gecos:home:shell` (passwd(5)).
fn passwd_entry(line: &str) -> Option<PasswdEntry<'_>> {
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    let uid = number(fields.nth(1)?)?;
    let gid = number(fields.next()?)?;
    Some(PasswdEntry { name, uid, gid, home: fields.nth(1).filter(|home| !home.is_empty()).unwrap_or("/") })
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u64,
    members: &'a str,
}

/// `name:password:gid:members` (group(5)).
fn group_entry(line: &str) -> Option<GroupEntry<'_>> {
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    let gid = number(fields.nth(1)?)?;
    Some(GroupEntry { name, gid, members: fields.next().unwrap_or_default() })
}

/// Digits only: `+1` and `-1` are names. A number beyond `u64` counts as the largest, which no range allows.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

fn id(number: u64, spec: &str) -> Result<u32, UserError> {
    i32::try_from(number).map(i32::cast_unsigned).map_err(|_| UserError::Range(spec.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATABASE: UserDatabase<'_> = UserDatabase {
        passwd: "root:x:0:0:root:/root:/bin/sh\n\
                 # comment:x:1:1::/:\n\
                 broken:x\n\
                 worse:x:a:b::/:\n\
                 redis:x:999:998::/home/redis:/bin/sh\n\
                 1234:x:5:6::/home/number:/bin/sh\n\
                 big:x:4294967295:0::/:\n\
                 nohome:x:7:7",
        group: "root:x:0:\n\
                redis:x:998:\n\
                log:x:4:adm,redis\n\
                ssl:x:101:redis\n\
                same:x:998:redis\n\
                odd\n\
                99:x:42:\n",
    };

    fn user(uid: u32, gid: u32, groups: &[u32], home: &str) -> Result<ResolvedUser, UserError> {
        Ok(ResolvedUser { uid, gid, groups: groups.to_vec(), home: home.to_owned() })
    }

    #[test]
    fn users_and_groups_are_found_as_docker_finds_them() {
        for (spec, expected) in [
            ("", user(0, 0, &[0], "/root")),
            ("root", user(0, 0, &[0], "/root")),
            ("redis", user(999, 998, &[998, 4, 101], "/home/redis")),
            ("999", user(999, 998, &[998, 4, 101], "/home/redis")),
            ("redis:redis", user(999, 998, &[998], "/home/redis")),
            ("redis:log", user(999, 4, &[4], "/home/redis")),
            ("redis:0", user(999, 0, &[0], "/home/redis")),
            (":log", user(0, 4, &[4], "/root")),
            ("redis:", user(999, 998, &[998, 4, 101], "/home/redis")),
            ("12345", user(12345, 0, &[0], "/")),
            ("12345:678", user(12345, 678, &[678], "/")),
            // A number is an ID, never a name.
            ("1234", user(1234, 0, &[0], "/")),
            ("redis:99", user(999, 99, &[99], "/home/redis")),
            ("nohome", user(7, 7, &[7], "/")),
            ("nobody", Err(UserError::NoUser("nobody".into()))),
            ("-1", Err(UserError::NoUser("-1".into()))),
            ("broken", Err(UserError::NoUser("broken".into()))),
            ("worse", Err(UserError::NoUser("worse".into()))),
            ("redis:nobody", Err(UserError::NoGroup("nobody".into()))),
            ("2147483648", Err(UserError::Range("2147483648".into()))),
            ("0:99999999999999999999", Err(UserError::Range("0:99999999999999999999".into()))),
            ("big", Err(UserError::Range("big".into()))),
        ] {
            assert_eq!(resolve(spec, DATABASE), expected, "{spec}");
        }
    }

    #[test]
    fn groups_are_added_by_name_or_number() {
        assert_eq!(group("log", DATABASE), Ok(4));
        assert_eq!(group("1234", DATABASE), Ok(1234));
        assert_eq!(group("nobody", DATABASE), Err(UserError::NoGroup("nobody".into())));
    }

    #[test]
    fn an_image_without_a_database_knows_numbers_only() {
        let none = UserDatabase::default();
        assert_eq!(resolve("", none), user(0, 0, &[0], "/"));
        assert_eq!(resolve("5:6", none), user(5, 6, &[6], "/"));
        assert_eq!(resolve("redis", none), Err(UserError::NoUser("redis".into())));
    }
}
