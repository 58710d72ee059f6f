//! `completion`: a few lines for a shell, which ask this executable what can be typed. So the services are completed too,
//! and nothing has to be kept in step.

use anyhow::Result;
use clap::CommandFactory as _;

use super::super::SUCCESS;
use super::super::args::{Arguments, Completion, Shell};
use super::super::output;
use super::super::settings::Settings;

const BASH: &str = r#"_dpack_NAME() {
    local IFS=$'\n'
    COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" completion bash -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _dpack_NAME PROGRAM
"#;

const ZSH: &str = r#"#compdef PROGRAM
_dpack_NAME() {
    local -a found
    found=("${(@f)$("${words[1]}" completion zsh -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    compadd -- $found || _files
}
compdef _dpack_NAME PROGRAM
"#;

const FISH: &str = r#"complete -c PROGRAM -a '(set -l w (commandline -opc) (commandline -ct); $w[1] completion fish -- $w[2..-1] 2>/dev/null)'
"#;

/// `completion`
pub(crate) fn run(settings: &Settings, arguments: &Completion) -> Result<u8> {
    if let Some(words) = &arguments.words {
        let services: Vec<String> =
            settings.known().map(|project| project.services.into_keys().collect()).unwrap_or_default();
        let lines = candidates(words, &services);
        output::print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>());
        return Ok(SUCCESS);
    }
    let program = settings.executable_path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name: String = program.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let script = match arguments.shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
    };
    // A name with blanks or quotes is no word of a shell.
    let quoted: String =
        program.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.+".contains(*c)).collect();
    output::print(&script.replace("NAME", &name).replace("PROGRAM", &quoted));
    Ok(SUCCESS)
}

/// What can stand in the place of the last word.
fn candidates(words: &[String], services: &[String]) -> Vec<String> {
    let command = Arguments::command();
    let (typed, before) = words.split_last().map_or(("", &[][..]), |(last, rest)| (last.as_str(), rest));
    let verb = before
        .iter()
        .find_map(|word| command.get_subcommands().find(|known| known.get_name() == word.as_str()));
    let of = verb.unwrap_or(&command);
    if typed.starts_with('-') {
        let own = of.get_arguments().chain(command.get_arguments());
        let flags = own.filter(|argument| !argument.is_hide_set()).filter_map(clap::Arg::get_long);
        let mut flags: Vec<String> = flags.map(|flag| format!("--{flag}")).collect();
        flags.dedup();
        return flags.into_iter().filter(|flag| flag.starts_with(typed)).collect();
    }
    let names: Vec<String> = match verb {
        None => {
            let shown = command.get_subcommands().filter(|known| !known.is_hide_set());
            shown.map(|known| known.get_name().to_owned()).collect()
        }
        Some(verb) if verb.get_arguments().any(|a| matches!(a.get_id().as_str(), "service" | "services")) => {
            services.to_vec()
        }
        Some(_) => Vec::new(),
    };
    names.into_iter().filter(|name| name.starts_with(typed)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let services = ["db".to_owned(), "web".to_owned()];
        candidates(&text.split(' ').map(str::to_owned).collect::<Vec<_>>(), &services)
    }

    #[test]
    fn verbs_flags_and_services_are_completed() {
        assert_eq!(words("lo"), ["logs"]);
        assert_eq!(words("logs w"), ["web"]);
        assert_eq!(words("logs --fo"), ["--follow"]);
        assert_eq!(words("-p x up --force"), ["--force-recreate"]);
        assert_eq!(words("version "), Vec::<String>::new());
        assert!(words("").contains(&"up".to_owned()));
    }
}
