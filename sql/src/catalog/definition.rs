//! Objects as SQL text, as `pg_get_indexdef` and its kin show them.

use std::fmt::Write;

use super::{
    Catalog, Column, ForeignKey, ForeignKeyAction, Grant, IndexColumn, Oid, Privilege, Relation, Table, TableIndex,
    View,
};
use crate::types::text::quote_identifier;

/// What a constraint OID names.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Constraint<'a> {
    PrimaryKey(&'a Table),
    Unique(&'a Table, &'a super::Index),
    Check(&'a Table, &'a super::Check),
    ForeignKey(&'a Table, &'a super::ForeignKey),
}

impl Catalog {
    /// A schema-qualified, quoted name.
    pub fn qualified_name(&self, schema: Oid, name: &str) -> String {
        format!("{}.{}", quote_identifier(self.schema_name(schema).unwrap_or_default()), quote_identifier(name))
    }

    /// A constraint by OID.
    pub fn constraint(&self, oid: Oid) -> Option<Constraint<'_>> {
        self.tables().find_map(|table| {
            if table.primary_key.as_ref().is_some_and(|key| key.constraint_oid == oid) {
                return Some(Constraint::PrimaryKey(table));
            }
            if let Some(index) = table.indexes.iter().find(|index| index.constraint && index.constraint_oid == oid) {
                return Some(Constraint::Unique(table, index));
            }
            if let Some(key) = table.foreign_keys.iter().find(|key| key.oid == oid) {
                return Some(Constraint::ForeignKey(table, key));
            }
            table.checks.iter().find(|check| check.oid == oid).map(|check| Constraint::Check(table, check))
        })
    }

    /// Whether a table has a constraint of this name.
    pub fn constraint_named(&self, name: &str) -> bool {
        self.tables().any(|table| {
            table.primary_key.as_ref().is_some_and(|key| key.name == name)
                || table.indexes.iter().any(|index| index.constraint && index.name == name)
                || table.checks.iter().any(|check| check.name == name)
                || table.foreign_keys.iter().any(|key| key.name == name)
        })
    }

    /// `CREATE INDEX …`
    pub fn index_definition(&self, index: &TableIndex) -> String {
        let table = &index.table;
        let columns: Vec<_> = index.columns().iter().map(|column| index_column(table, *column, true)).collect();
        let mut text = format!(
            "CREATE {}INDEX {} ON {} USING btree ({})",
            if index.unique() { "UNIQUE " } else { "" },
            quote_identifier(index.name()),
            self.qualified_name(table.schema, &table.name),
            columns.join(", ")
        );
        if let Some(index) = &index.index
            && !index.options.is_empty()
        {
            let options: Vec<_> = index
                .options
                .iter()
                .map(|option| {
                    option.split_once('=').map_or(option.clone(), |(name, value)| format!("{name}='{value}'"))
                })
                .collect();
            _ = write!(text, " WITH ({})", options.join(", "));
        }
        text
    }

    /// One column of an index, from 1; empty when there is none.
    pub fn index_column_definition(&self, index: &TableIndex, column: usize) -> String {
        let columns = index.columns();
        let found = column.checked_sub(1).and_then(|at| columns.get(at));
        found.map_or(String::new(), |column| index_column(&index.table, *column, false))
    }

    /// `PRIMARY KEY (a)`, `UNIQUE (b)`, `CHECK ((c > 0))`, `FOREIGN KEY (d) REFERENCES t(a)`.
    pub fn constraint_definition(&self, constraint: &Constraint<'_>, pretty: bool, search_path: &[String]) -> String {
        match constraint {
            Constraint::PrimaryKey(table) => {
                let columns = table.primary_key.iter().flat_map(|key| &key.columns);
                format!("PRIMARY KEY ({})", column_list(table, columns.copied()))
            }
            Constraint::Unique(table, index) => {
                format!("UNIQUE ({})", column_list(table, index.columns.iter().map(|column| column.column)))
            }
            Constraint::ForeignKey(table, key) => self.foreign_key_definition(table, key, search_path),
            Constraint::Check(_, check) if pretty => format!("CHECK ({})", check.expression),
            Constraint::Check(_, check) => format!("CHECK (({}))", check.expression),
        }
    }

    /// The referenced table is qualified where the search path would not find it.
    fn foreign_key_definition(&self, table: &Table, key: &ForeignKey, search_path: &[String]) -> String {
        let parent = self.table(key.parent);
        let name = self.relation_name(key.parent, search_path).unwrap_or_default();
        let columns = column_list(table, key.columns.iter().copied());
        let referenced = parent.map_or(String::new(), |parent| column_list(parent, key.parent_columns.iter().copied()));
        let mut text = format!("FOREIGN KEY ({columns}) REFERENCES {name}({referenced})");
        if key.match_full {
            text.push_str(" MATCH FULL");
        }
        for (event, action) in [("UPDATE", key.on_update), ("DELETE", key.on_delete)] {
            if action != ForeignKeyAction::NoAction {
                _ = write!(text, " ON {event} {}", action.sql());
            }
        }
        text
    }

    /// A default as shown: sequences, which are kept by OID, by name.
    pub fn default_definition(&self, column: &Column, search_path: &[String]) -> Option<String> {
        let text = column.default.as_ref()?;
        let mut shown = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once('\'') {
            let Some((literal, behind)) = after.split_once('\'') else { break };
            let oid = behind.to_lowercase().starts_with("::regclass").then(|| literal.parse().ok()).flatten();
            let name = oid.and_then(|oid| self.relation_name(oid, search_path));
            _ = write!(shown, "{before}'{}'", name.as_deref().unwrap_or(literal));
            rest = match behind.get(.."::regclass".len()) {
                Some(cast) if cast.eq_ignore_ascii_case("::regclass") => {
                    shown.push_str("::regclass");
                    &behind["::regclass".len()..]
                }
                _ => behind,
            };
        }
        shown.push_str(rest);
        Some(shown)
    }

    /// A view's query as `pg_get_viewdef` shows it.
    pub fn view_definition(&self, view: &View) -> String {
        format!(" {};", view.query)
    }

    /// Privileges as `aclitem`s: `bob=r/postgres`; empty when there are only the owner's own.
    pub fn acl(&self, relation: &Relation) -> Vec<String> {
        let (grants, all): (&[Grant], &str) = match relation {
            Relation::Table(table) => (&table.privileges, "arwdDxt"),
            Relation::View(view) => (&view.privileges, "arwdDxt"),
            Relation::Sequence(sequence) => (&sequence.privileges, "rwU"),
            _ => (&[], ""),
        };
        if grants.is_empty() {
            return Vec::new();
        }
        let name = |oid: Oid| match oid {
            0 => String::new(),
            oid => self.role(oid).map_or_else(|| oid.to_string(), |role| quote_identifier(&role.name)),
        };
        let owner = name(relation.owner());
        let own = format!("{owner}={all}/{owner}");
        let granted = grants.iter().map(|grant| {
            let letters = |(privilege, grantable): &(Privilege, bool)| {
                format!("{}{}", privilege.letter(), if *grantable { "*" } else { "" })
            };
            let letters: String = grant.privileges.iter().map(letters).collect();
            format!("{}={letters}/{}", name(grant.grantee), name(grant.grantor))
        });
        std::iter::once(own).chain(granted).collect()
    }
}

impl Privilege {
    /// Its letter in an `aclitem`.
    pub fn letter(self) -> char {
        match self {
            Privilege::Insert => 'a',
            Privilege::Select => 'r',
            Privilege::Update => 'w',
            Privilege::Delete => 'd',
            Privilege::Truncate => 'D',
            Privilege::References => 'x',
            Privilege::Trigger => 't',
            Privilege::Usage => 'U',
        }
    }

    /// Its word in GRANT.
    pub fn word(self) -> &'static str {
        match self {
            Privilege::Insert => "INSERT",
            Privilege::Select => "SELECT",
            Privilege::Update => "UPDATE",
            Privilege::Delete => "DELETE",
            Privilege::Truncate => "TRUNCATE",
            Privilege::References => "REFERENCES",
            Privilege::Trigger => "TRIGGER",
            Privilege::Usage => "USAGE",
        }
    }

    /// The privilege of a word as the `has_…_privilege` functions take it.
    pub fn from_word(word: &str) -> Option<Self> {
        use Privilege::*;
        let all = [Select, Insert, Update, Delete, Truncate, References, Trigger, Usage];
        all.into_iter().find(|privilege| privilege.word().eq_ignore_ascii_case(word.trim()))
    }
}

fn index_column(table: &Table, column: IndexColumn, with_order: bool) -> String {
    let mut text = quote_identifier(&table.columns[column.column].name);
    if with_order {
        text.push_str(match (column.descending, column.nulls_first) {
            (false, false) => "",
            (false, true) => " NULLS FIRST",
            (true, true) => " DESC",
            (true, false) => " DESC NULLS LAST",
        });
    }
    text
}

fn column_list(table: &Table, columns: impl Iterator<Item = usize>) -> String {
    columns.map(|column| quote_identifier(&table.columns[column].name)).collect::<Vec<_>>().join(", ")
}
