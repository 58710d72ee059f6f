//! System calls by name.

use super::Architecture;

const TABLE: &str = include_str!("numbers.txt");

/// The whole table, for many look-ups.
pub(super) struct Numbers {
    /// Name, numbers in the order of the file; sorted by name.
    rows: Vec<(&'static str, &'static str)>,
}

impl Numbers {
    pub(super) fn read() -> Self {
        let rows = TABLE.lines().filter(|line| !line.starts_with('#'));
        Numbers { rows: rows.filter_map(|line| line.split_once(' ')).collect() }
    }

    /// None where a machine has no such call, or nobody has.
    pub(super) fn find(&self, name: &str, architecture: Architecture) -> Option<u32> {
        let row = self.rows.binary_search_by_key(&name, |(name, _)| name).ok()?;
        let column = match architecture {
            Architecture::X86_64 => 0,
            Architecture::I386 => 1,
            Architecture::Aarch64 => 2,
            Architecture::Arm => 3,
        };
        self.rows[row].1.split(' ').nth(column)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_whole() {
        let numbers = Numbers::read();
        assert!(numbers.rows.is_sorted(), "binary search needs it");
        for (name, columns) in &numbers.rows {
            let columns: Vec<&str> = columns.split(' ').collect();
            assert_eq!(columns.len(), 4, "{name}");
            assert!(columns.iter().all(|column| *column == "-" || column.parse::<u32>().is_ok()), "{name}");
        }
        assert_eq!(numbers.find("getuid", Architecture::X86_64), Some(102));
        assert_eq!(numbers.find("getuid32", Architecture::X86_64), None);
        assert_eq!(numbers.find("cacheflush", Architecture::Arm), Some(0xf0002));
        assert_eq!(numbers.find("nothing", Architecture::Arm), None);
    }

    /// Where `linux-libc-dev` is, with the kernel's own.
    #[test]
    fn numbers_are_those_of_the_kernels_headers() {
        let headers = [
            ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", Architecture::X86_64),
            ("/usr/include/x86_64-linux-gnu/asm/unistd_32.h", Architecture::I386),
        ];
        let numbers = Numbers::read();
        for (path, architecture) in headers {
            let Ok(text) = std::fs::read_to_string(path) else {
                eprintln!("skipped: {path} is not there");
                continue;
            };
            let defined = text.lines().filter_map(|line| line.strip_prefix("#define __NR_")?.split_once(' '));
            let mut compared = 0;
            for (name, number) in defined {
                assert_eq!(numbers.find(name, architecture), number.trim().parse().ok(), "{name} in {path}");
                compared += 1;
            }
            assert!(compared > 300, "{path} defines only {compared}");
        }
    }
}
