//! The items of a bound plan, and what each means.

use std::borrow::Cow;
use std::path::{Component, Path};

use super::lists::{self, has};
use super::{Builtins, Caller};
use crate::access::{self, Operation, Principal, Role};
use crate::engine::{CATALOG, metadata};
use crate::error::{Error, ErrorKind, Result};

/// What an item says; the same numbers as in `plan.cpp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Kind {
    /// A table is read.
    Read,
    /// A table function is called.
    TableFunction,
    /// A function is called; `what` is its first argument, if that is a constant.
    Function,
    /// A table is written; `what` is the word for how.
    Write,
    /// An entry of the catalog is made; `what` is the kind of entry.
    Create,
    /// One is dropped.
    Drop,
    /// One is altered.
    Alter,
    /// A setting is set or reset; `what` is its scope.
    Set,
    /// A pragma is called.
    Pragma,
    /// Rows are written to the file `name`.
    CopyTo,
    /// JSON becomes a VARIANT.
    VariantOfJson,
    /// The answer of DESCRIBE or SHOW, made while the statement was bound; `what` tells which.
    Shown,
    /// What depends on what is dropped goes with it.
    Cascade,
    /// Another operator.
    Other,
}

impl Kind {
    /// Every kind, in the order of its number.
    pub(in crate::engine) const ALL: &[Self] = &[
        Self::Read,
        Self::TableFunction,
        Self::Function,
        Self::Write,
        Self::Create,
        Self::Drop,
        Self::Alter,
        Self::Set,
        Self::Pragma,
        Self::CopyTo,
        Self::VariantOfJson,
        Self::Shown,
        Self::Cascade,
        Self::Other,
    ];
}

/// One item of a bound plan. Names are as DuckDB has resolved them.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Item<'a> {
    pub(in crate::engine) kind: Kind,
    pub(in crate::engine) what: &'a str,
    pub(in crate::engine) catalog: &'a str,
    pub(in crate::engine) schema: &'a str,
    pub(in crate::engine) name: &'a str,
}

impl Item<'_> {
    /// Whether the caller may do it.
    pub(super) fn allowed(&self, caller: &Caller) -> Result<()> {
        let principal = &*caller.principal;
        match self.kind {
            Kind::Read => self.read(principal),
            Kind::TableFunction => self.table_function(principal),
            Kind::Function => self.function(principal),
            Kind::Write => self.write(caller),
            Kind::Create | Kind::Drop | Kind::Alter => self.change_entry(caller),
            Kind::Set => self.set(principal),
            Kind::CopyTo => self.copy_to(caller),
            Kind::Shown => self.shown(principal),
            Kind::Cascade if principal.is_restricted() => {
                Err(refused("CASCADE is for those who may write everything: it drops what no grant names"))
            }
            Kind::Cascade => Ok(()),
            Kind::VariantOfJson => Err(refused(
                "a cast of JSON to VARIANT is not offered: deeply nested values would end the server; keep it JSON",
            )),
            Kind::Pragma => Err(refused(format!("PRAGMA {} is not offered", self.name))),
            Kind::Other if self.name == "VACUUM" => principal.may(Operation::Administer("VACUUM or ANALYZE")),
            Kind::Other => Err(refused(format!("{} is not offered", self.name))),
        }
    }

    fn read(&self, principal: &Principal) -> Result<()> {
        match self.place()? {
            Place::Own => Ok(()),
            Place::Data if self.is_server_table() => principal.may(Operation::ReadCatalog),
            Place::Data => principal.may(Operation::Read(&self.granted_name())),
        }
    }

    fn write(&self, caller: &Caller) -> Result<()> {
        match self.place()? {
            Place::Own => return caller.principal.may(Operation::WriteOwn),
            Place::Data if self.is_server_table() => {
                return Err(refused(format!("`{}` is written by the server only", self.name)));
            }
            Place::Data => caller.principal.may(Operation::Write(&self.granted_name()))?,
        }
        // The statement's words have told the same before, unless they were hidden.
        let keeps_rules = !["UPDATE", "MERGE", "INDEX"].contains(&self.what);
        if keeps_rules || self.granted_name() != self.name || !caller.engine.managed.may_have(self.name) {
            return Ok(());
        }
        Err(refused(format!("{} is not possible on {}, whose rows enter through ingest only", self.what, self.name)))
    }

    fn change_entry(&self, caller: &Caller) -> Result<()> {
        if self.kind == Kind::Create && self.hides(&caller.engine.builtins) {
            return Err(name_of_ours(self.name));
        }
        match self.what {
            "Trigger" if self.kind == Kind::Create => {
                return Err(refused("triggers are not offered: they would act with the rights of others"));
            }
            "Database" | "Secret" | "Secret Type" => return Err(refused(format!("{} is not offered", self.what))),
            "Prepared Statement" => return Ok(()),
            // PIVOT makes one for its columns, and drops it.
            "Type" if self.place()? == Place::Own => return Ok(()),
            "Schema" => return self.change_schema(&caller.principal),
            _ => {}
        }
        self.write(caller)
    }

    /// Whether something of the name would be found in place of what DuckDB, or the server, has under it.
    fn hides(&self, builtins: &Builtins) -> bool {
        match self.what {
            "Macro Function" | "Table Macro Function" | "Type" => builtins.have(self.name),
            "Table" | "View" => builtins.have_relation(self.name),
            // One named like the catalog would make the names of all its schemas ambiguous.
            "Schema" => Builtins::have_schema(self.name) || self.name.eq_ignore_ascii_case(CATALOG),
            _ => false,
        }
    }

    fn change_schema(&self, principal: &Principal) -> Result<()> {
        self.place()?;
        if self.kind == Kind::Create && !self.schema.is_empty() {
            return Err(refused("a schema in a schema is not offered: clients know catalogs, schemas and tables"));
        }
        let outer = if self.schema.is_empty() { String::new() } else { format!("{}.", self.schema) };
        principal.may(Operation::Write(&format!("{outer}{}.", self.name)))
    }

    fn set(&self, principal: &Principal) -> Result<()> {
        match self.what {
            "variable" => Ok(()),
            "global" if has(lists::SETTINGS_SET, self.name) => {
                principal.may(Operation::Administer("change a setting for everybody"))
            }
            _ if has(lists::SETTINGS_SET, self.name) => Ok(()),
            _ => Err(refused(format!(
                "the setting {} is not for users: TimeZone, schema and search_path are",
                self.name
            ))),
        }
    }

    fn table_function(&self, principal: &Principal) -> Result<()> {
        let name = self.name;
        if has(lists::COMPUTE, name) {
            return Ok(());
        }
        // COPY FROM reads with functions of its own.
        if has(lists::REMOVED, name) {
            return Err(refused("reading files on the server is not offered: `merganser ingest` sends them"));
        }
        if has(lists::CATALOG, name) {
            return principal.may(Operation::ReadCatalog);
        }
        if name.starts_with("merganser_import") {
            return Err(refused(format!("{name} is the server's own")));
        }
        principal.may(Operation::Administer("look into the server")).map_err(|_| {
            Error::new(
                ErrorKind::PermissionDenied,
                format!("table function {name} is for admins, and user {:?} is not one", principal.name),
            )
        })
    }

    fn function(&self, principal: &Principal) -> Result<()> {
        let name = self.name;
        if has(&["nextval", "setval"], name) {
            return principal.may(Operation::WriteOwn);
        }
        if name.eq_ignore_ascii_case("sleep_ms") {
            return principal.may(Operation::Administer("let a statement sleep"));
        }
        if name.eq_ignore_ascii_case("current_setting") && !has(lists::SETTINGS_SHOWN, self.what) {
            return principal.may(Operation::Administer("look at this setting"));
        }
        Ok(())
    }

    fn shown(&self, principal: &Principal) -> Result<()> {
        match self.what {
            "setting" => {
                principal.may(Operation::Administer("SHOW a setting: current_setting('TimeZone') is for everybody"))
            }
            // The tables that the described query names are not part of the plan.
            _ => principal.may(Operation::ReadCatalog),
        }
    }

    fn copy_to(&self, caller: &Caller) -> Result<()> {
        let directory = caller.engine.export_directory.as_deref();
        let Some(directory) = directory.filter(|_| caller.principal.role == Role::Admin) else {
            return Err(refused(
                "COPY TO is not offered: read the rows with a query, or let an admin set engine.export_directory",
            ));
        };
        let path = Path::new(self.name);
        let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if plain && path.starts_with(directory) && path != directory {
            return Ok(());
        }
        Err(refused("COPY TO writes below engine.export_directory only, and takes the whole path"))
    }

    fn place(&self) -> Result<Place> {
        let is = |name: &str| self.catalog.eq_ignore_ascii_case(name);
        if is("temp") {
            return Ok(Place::Own);
        }
        // A name that was not found has no catalog: IF EXISTS.
        if is(CATALOG) || is("") {
            return Ok(Place::Data);
        }
        if is("system") && self.kind == Kind::Read {
            return Ok(Place::Own);
        }
        Err(refused(format!("catalog {} is not for users: tables are in {CATALOG}", self.catalog)))
    }

    fn is_server_table(&self) -> bool {
        self.granted_name() == self.name && metadata::is_server_table(self.name)
    }

    /// The name as grants name it.
    fn granted_name(&self) -> Cow<'_, str> {
        access::table_name(self.schema, self.name)
    }
}

/// Where an entry of the catalog is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the session's own catalog, or DuckDB's.
    Own,
    /// In the data file.
    Data,
}

pub(super) fn name_of_ours(name: &str) -> Error {
    refused(format!("{name:?} is the name of one of DuckDB's or the server's own: take another"))
}

fn refused(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::PermissionDenied, why)
}
