//! `merganser man`: the manual pages, one for each command.

use std::fs;
use std::path::PathBuf;

use clap::CommandFactory;

use super::{Cli, output};
use crate::error::Result;

/// Write the manual pages into a directory
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Write the manual pages into a directory\n\n\
    One for each command, for section 1; the directory is made if it is not there",
    after_long_help = "Examples:\n  \
    merganser man ~/.local/share/man/man1\n  \
    merganser man /tmp/pages"
)]
pub(super) struct Args {
    /// The directory
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let name = args.directory.display().to_string();
    let failed = |error| output::write_error(&name, error);
    fs::create_dir_all(&args.directory).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), &args.directory).map_err(failed)?;
    output::print(&format!("{name}: merganser.1 and the pages of its commands"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn every_command_has_a_page_that_groff_understands() {
        let folder = tempfile::tempdir().unwrap();
        run(&Args { directory: folder.path().join("man1") }).unwrap();
        let mut command = Cli::command();
        command.build();
        let has_groff = Command::new("groff").arg("--version").output().is_ok();
        for subcommand in command.get_subcommands().filter(|command| command.get_name() != "help") {
            let page = folder.path().join(format!("man1/merganser-{}.1", subcommand.get_name()));
            let text = fs::read_to_string(&page).unwrap();
            assert!(text.contains("merganser"), "{text}");
            if !has_groff {
                continue;
            }
            let checked = Command::new("groff").args(["-man", "-ww", "-z", "-Tutf8"]).arg(&page).output().unwrap();
            let told = String::from_utf8_lossy(&checked.stderr);
            assert!(checked.status.success() && told.trim().is_empty(), "{}: {told}", page.display());
        }
    }
}
