//! Prints the table of COMPOSE.md.
#![expect(clippy::print_stdout, reason = "it is what the example is for")]

fn main() {
    for row in dpack_compose::table() {
        println!("{}", format!("| `{}` | {} | {} |", row.key, row.verdict, row.note).replace("|  |", "| |"));
    }
}
