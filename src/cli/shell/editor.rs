//! The prompt: editing of lines, completion, history, and statements of several lines.

use std::borrow::Cow;
use std::path::PathBuf;
use std::rc::Rc;

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use super::complete::names::ServerNames;
use super::complete::{complete, wants_file};
use super::{history, statements};
use crate::error::{Error, Result};

/// The prompt of a terminal.
pub(super) struct Prompt {
    editor: Editor<Assistant, FileHistory>,
    history: Option<PathBuf>,
}

/// What was typed.
pub(super) enum Typed {
    Text(String),
    /// ctrl-c: what was typed is given up.
    Nothing,
    /// ctrl-d.
    End,
}

impl Prompt {
    pub(super) fn new(names: Rc<ServerNames>) -> Result<Self> {
        let config = Config::builder()
            .max_history_size(history::ENTRIES_MAX)
            .map_err(unusable)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .completion_show_all_if_ambiguous(true)
            .build();
        let mut editor = Editor::with_config(config).map_err(unusable)?;
        editor.set_helper(Some(Assistant { names, files: FilenameCompleter::new() }));
        let history = history::path();
        if let Some(path) = &history {
            history::prepare(path);
            // There is none the first time.
            drop(editor.load_history(path));
        }
        Ok(Self { editor, history })
    }

    /// Waits for a whole statement or command.
    pub(super) fn read(&mut self, prompt: &str) -> Result<Typed> {
        let text = match self.editor.readline(prompt) {
            Ok(text) => text,
            Err(ReadlineError::Interrupted) => return Ok(Typed::Nothing),
            Err(ReadlineError::Eof) => return Ok(Typed::End),
            Err(error) => return Err(unusable(error)),
        };
        if let (Some(entry), Some(path)) = (history::entry(&text), &self.history) {
            // A disk that is full is no reason not to work.
            drop(self.editor.add_history_entry(entry));
            drop(self.editor.append_history(path));
        }
        Ok(Typed::Text(text))
    }
}

fn unusable(error: ReadlineError) -> Error {
    Error::internal(format!("the terminal cannot be used: {error}")).with_source(error)
}

/// What helps while a text is typed.
struct Assistant {
    names: Rc<ServerNames>,
    files: FilenameCompleter,
}

impl Helper for Assistant {}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, context: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        if wants_file(line, at) {
            return self.files.complete(line, at, context);
        }
        Ok(complete(line, at, &*self.names))
    }
}

/// A remark behind what is typed, which is not taken over.
struct Remark(String);

impl Hint for Remark {
    fn display(&self) -> &str {
        &self.0
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Hinter for Assistant {
    type Hint = Remark;

    fn hint(&self, line: &str, at: usize, _: &Context<'_>) -> Option<Remark> {
        let open = statements::forgotten(line).filter(|_| at == line.len())?;
        Some(Remark(format!("   ({open} is not closed)")))
    }
}

impl Highlighter for Assistant {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[2m{hint}\x1b[0m"))
    }
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if statements::is_complete(context.input()) {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}
