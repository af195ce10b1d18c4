//! Lines become steps, which run one after the other until the first error; that is told with its place.

use std::io;

use super::statements::{CommandLine, Reader, Statement};
use super::{Next, Shell, Told, command, trouble};
use crate::cli::output;
use crate::error::Error;

/// Where lines come from.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// The name of a file; none: they were typed.
    name: Option<String>,
    /// Whether a person has typed them at the prompt.
    is_prompt: bool,
}

impl Origin {
    /// A file of this name.
    pub(super) fn file(name: &str) -> Self {
        Self { name: Some(name.to_owned()), is_prompt: false }
    }

    /// The prompt.
    pub(super) fn prompt() -> Self {
        Self { name: None, is_prompt: true }
    }

    /// The command line.
    pub(super) fn argument() -> Self {
        Self { name: None, is_prompt: false }
    }

    /// What stands before the message of an error on this line.
    fn label(&self, line: usize) -> String {
        match &self.name {
            Some(name) => format!("merganser: {name}:{line}: "),
            None if self.is_prompt => "error: ".to_owned(),
            None => "merganser: ".to_owned(),
        }
    }
}

impl Shell {
    /// Runs all lines that `read` gives.
    pub(super) fn script(
        &mut self,
        origin: &Origin,
        mut read: impl FnMut() -> io::Result<Option<String>>,
    ) -> Result<Next, Told> {
        let mut reader = Reader::default();
        let mut line_number = 0;
        loop {
            line_number += 1;
            let line = match read() {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(error) => {
                    let reason = output::reason(&error);
                    return Err(tell(origin, line_number, &Error::invalid(format!("cannot read it: {reason}"))));
                }
            };
            let command = reader.push(&line).map_err(|error| tell(origin, line_number, &error))?;
            if let Some(CommandLine { text, line }) = command {
                let parsed = command::parse(&text).map_err(|error| tell(origin, line, &error))?;
                if self.command_at(origin, line, parsed)? == Next::Quit {
                    return Ok(Next::Quit);
                }
            }
            while let Some(statement) = reader.next() {
                self.statement(origin, statement)?;
            }
        }
        let rest = reader.rest().map_err(|error| tell(origin, line_number, &error))?;
        rest.map_or(Ok(()), |statement| self.statement(origin, statement))?;
        Ok(Next::Go)
    }

    /// Runs a command that was typed without its line.
    pub(super) fn command(&mut self, origin: &Origin, command: command::Command) -> Result<Next, Told> {
        self.command_at(origin, 1, command)
    }

    fn command_at(&mut self, origin: &Origin, line: usize, command: command::Command) -> Result<Next, Told> {
        match self.obey(command) {
            Ok(done) => done,
            Err(error) => {
                let told = tell(origin, line, &error);
                self.recover(&error);
                Err(told)
            }
        }
    }

    fn statement(&mut self, origin: &Origin, statement: Statement) -> Result<(), Told> {
        let done = self.run(&statement.text);
        let told = done.map_err(|error| {
            let told = tell_of_statement(origin, &statement, &error);
            self.recover(&error);
            told
        });
        self.last = Some(statement);
        told
    }
}

/// Tells of an error.
fn tell(origin: &Origin, line: usize, error: &Error) -> Told {
    if !output::stdout_is_closed() {
        output::tell(&format!("{}{error}", origin.label(line)));
    }
    Told
}

/// Tells of a statement's error, with its place in the statement, and what may have been meant.
fn tell_of_statement(origin: &Origin, statement: &Statement, error: &Error) -> Told {
    let position = error.position();
    let line = statement.line + position.map_or(0, |position| trouble::lines_before(&statement.text, position));
    let told = tell(origin, line, error);
    if let Some(shown) = position.and_then(|position| trouble::point(&statement.text, position)) {
        output::tell(&shown);
    }
    if let Some(hint) = trouble::hint(error, &statement.text) {
        output::tell(&format!("hint: {hint}"));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_labelled_with_their_origin() {
        assert_eq!(Origin::file("a.sql").label(7), "merganser: a.sql:7: ");
        assert_eq!(Origin::argument().label(7), "merganser: ");
        assert_eq!(Origin::prompt().label(7), "error: ");
    }
}
