//! `merganser completions`: what makes a shell complete the commands of this program.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, output};
use crate::error::Result;

/// Print what makes a shell complete the commands
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Print what makes a shell complete the commands\n\n\
    The text goes into the file that the shell reads for it",
    after_long_help = "Examples:\n  \
    merganser completions bash > ~/.local/share/bash-completion/completions/merganser\n  \
    merganser completions zsh > ~/.zfunc/_merganser\n  \
    merganser completions fish > ~/.config/fish/completions/merganser.fish"
)]
pub(super) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let text = script(args.shell);
    let mut stdout = output::Stdout;
    stdout.write_all(&text).and_then(|()| stdout.flush()).map_err(|error| output::write_error("stdout", error))
}

fn script(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "merganser", &mut text);
    text
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_has_all_commands() {
        for shell in Shell::value_variants() {
            let text = String::from_utf8(script(*shell)).unwrap();
            for word in ["ingest", "on-duplicate", "completions", "max-rows"] {
                assert!(text.contains(word), "{shell} {word}");
            }
        }
    }

    /// What bash completes of a line.
    fn completed(words: &[&str]) -> Vec<String> {
        let asked = format!(
            "COMP_WORDS=({})\nCOMP_CWORD={}\n_merganser merganser {:?} {:?}\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.join(" "),
            words.len() - 1,
            words[words.len() - 1],
            words[words.len() - 2],
        );
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", "source /dev/stdin && eval \"$1\"", "bash", &asked]);
        let mut child = bash.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&script(Shell::Bash)).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn bash_completes_commands_options_and_values() {
        assert_eq!(completed(&["merganser", "ing"]), ["ingest"]);
        assert_eq!(completed(&["merganser", "ingest", "--on-d"]), ["--on-duplicate"]);
        assert_eq!(completed(&["merganser", "ingest", "--mode", "create_"]), ["create_append"]);
        assert_eq!(completed(&["merganser", "token", "re"]), ["revoke"]);
    }
}
