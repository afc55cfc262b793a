//! Session functions that are answered from the catalog: `pg_get_indexdef`, `pg_table_is_visible`,
//! `has_table_privilege` and so on.

use crate::error::{Result, SqlError, SqlState};
use crate::functions::EvalContext;
use crate::types::{DataType, Datum};

use super::{BOOTSTRAP_ROLE_OID, Catalog, Oid, Privilege, Relation, class};

/// Calls such a function by name, with arguments of its signature; 0A000 when it is none of them.
pub fn call(
    name: &str,
    args: &[Datum],
    catalog: &Catalog,
    search_path: &[String],
    context: &EvalContext,
) -> Result<Datum> {
    if args.iter().any(Datum::is_null) && !matches!(name, "pg_get_expr" | "set_config") {
        return Ok(Datum::Null);
    }
    let caller = context.session.system_information().current_role();
    let call = Call { catalog, search_path, caller };
    let text = |text: Option<String>| Ok(text.map_or(Datum::Null, Datum::text));
    match (name, args) {
        ("pg_get_userbyid", [Datum::Oid(oid)]) => {
            let name = catalog.role(*oid).map(|role| role.name.clone());
            text(Some(name.unwrap_or_else(|| format!("unknown (OID={oid})"))))
        }
        ("pg_get_expr", [expression, Datum::Oid(_), ..]) => Ok(expression.clone()),
        ("pg_get_expr", _) => Ok(Datum::Null),
        ("pg_get_indexdef", [Datum::Oid(oid), rest @ ..]) => {
            let column = match rest {
                [Datum::Int4(column), ..] => usize::try_from(*column).unwrap_or(0),
                _ => 0,
            };
            text(catalog.index_by_oid(*oid).map(|index| match column {
                0 => catalog.index_definition(&index),
                column => catalog.index_column_definition(&index, column),
            }))
        }
        ("pg_get_constraintdef", [Datum::Oid(oid), rest @ ..]) => {
            let pretty = matches!(rest, [Datum::Bool(true)]);
            text(catalog.constraint(*oid).map(|found| catalog.constraint_definition(&found, pretty, call.search_path)))
        }
        ("pg_get_viewdef", [Datum::Oid(oid), ..]) => text(call.view_definition(*oid)),
        ("pg_get_viewdef", [Datum::Text(name), ..]) => text(call.view_definition(call.relation(name)?)),
        ("pg_get_serial_sequence", [Datum::Text(table), Datum::Text(column)]) => {
            text(call.serial_sequence(table, column)?)
        }
        (
            "pg_get_ruledef"
            | "pg_get_triggerdef"
            | "pg_get_functiondef"
            | "pg_get_function_sqlbody"
            | "pg_get_statisticsobjdef_columns"
            | "pg_get_partkeydef",
            [_, ..],
        ) => Ok(Datum::Null),
        ("pg_get_function_result", [Datum::Oid(oid)]) => text(super::system::function_result(*oid)),
        ("pg_get_function_arguments" | "pg_get_function_identity_arguments", [Datum::Oid(oid)]) => {
            text(super::system::function_arguments(*oid))
        }
        ("pg_table_is_visible", [Datum::Oid(oid)]) => {
            let known = catalog.relation_by_oid(*oid).is_some();
            Ok(if known { Datum::Bool(catalog.is_visible(*oid, search_path)) } else { Datum::Null })
        }
        (
            "pg_type_is_visible"
            | "pg_function_is_visible"
            | "pg_operator_is_visible"
            | "pg_opclass_is_visible"
            | "pg_opfamily_is_visible"
            | "pg_collation_is_visible"
            | "pg_conversion_is_visible"
            | "pg_statistics_obj_is_visible"
            | "pg_ts_config_is_visible",
            [Datum::Oid(_)],
        ) => Ok(Datum::Bool(true)),
        ("pg_relation_is_publishable", [Datum::Oid(oid)]) => Ok(Datum::Bool(catalog.table(*oid).is_some())),
        ("pg_is_other_temp_schema", [_]) => Ok(Datum::Bool(false)),
        ("pg_my_temp_schema", []) => Ok(Datum::Oid(0)),
        ("obj_description", [Datum::Oid(oid), Datum::Text(class)]) => {
            text(comment_class(class).and_then(|class| catalog.comment(class, *oid, 0)).map(str::to_owned))
        }
        ("obj_description", [Datum::Oid(oid)]) => {
            let found = catalog.comments().find(|(_, object, sub, _)| object == oid && *sub == 0);
            text(found.map(|(.., comment)| comment.to_owned()))
        }
        ("shobj_description", [Datum::Oid(oid), Datum::Text(class)]) => {
            text(comment_class(class).and_then(|class| catalog.comment(class, *oid, 0)).map(str::to_owned))
        }
        ("col_description", [Datum::Oid(oid), Datum::Int4(column)]) => {
            text(catalog.comment(class::RELATION, *oid, *column).map(str::to_owned))
        }
        ("pg_table_size" | "pg_total_relation_size" | "pg_relation_size", [Datum::Oid(oid), ..]) => {
            Ok(call.relation_size(*oid).map_or(Datum::Null, Datum::Int8))
        }
        ("pg_indexes_size", [Datum::Oid(_)]) => Ok(Datum::Int8(0)),
        ("pg_database_size", [Datum::Oid(_) | Datum::Text(_)]) => {
            let sizes = catalog.tables().filter_map(|table| call.relation_size(table.oid));
            Ok(Datum::Int8(sizes.sum()))
        }
        ("pg_tablespace_location", [Datum::Oid(_)]) => Ok(Datum::text("")),
        ("pg_sequence_last_value", [Datum::Oid(oid)]) => {
            let information = context.session.system_information();
            let position = catalog.sequence(*oid).and_then(|sequence| information.sequence_position(sequence));
            let last = position.filter(|position| position.is_called).map(|position| position.last_value);
            Ok(last.map_or(Datum::Null, Datum::Int8))
        }
        ("to_regclass", [Datum::Text(name)]) => {
            Ok(catalog.relation_by_text(name, search_path).map_or(Datum::Null, |relation| Datum::Oid(relation.oid())))
        }
        ("to_regtype", [Datum::Text(name)]) => {
            Ok(DataType::from_name(name).map_or(Datum::Null, |data_type| Datum::Oid(data_type.oid())))
        }
        ("to_regnamespace", [Datum::Text(name)]) => Ok(catalog.schema_oid(name).map_or(Datum::Null, Datum::Oid)),
        ("to_regrole", [Datum::Text(name)]) => {
            Ok(catalog.role_by_name(name).map_or(Datum::Null, |role| Datum::Oid(role.oid)))
        }
        ("to_regproc", [Datum::Text(_)]) => Ok(Datum::Null),
        ("pg_encoding_to_char", [Datum::Int4(encoding)]) => Ok(Datum::text(if *encoding == 6 { "UTF8" } else { "" })),
        ("pg_char_to_encoding", [Datum::Text(name)]) => {
            let utf8 = matches!(name.to_uppercase().replace('-', "").as_str(), "UTF8" | "UNICODE");
            Ok(Datum::Int4(if utf8 { 6 } else { -1 }))
        }
        ("getdatabaseencoding" | "pg_client_encoding", []) => Ok(Datum::text("UTF8")),
        ("has_table_privilege" | "has_sequence_privilege" | "has_any_column_privilege" | "has_column_privilege", _) => {
            call.has_relation_privilege(name, args)
        }
        ("has_schema_privilege" | "has_database_privilege", _) => call.has_container_privilege(name, args),
        (
            "has_function_privilege" | "has_type_privilege" | "has_tablespace_privilege" | "has_language_privilege",
            _,
        ) => Ok(Datum::Bool(true)),
        ("pg_has_role", _) => call.has_role(args),
        _ => Err(SqlError::unsupported(format!("function {name}() with {} arguments", args.len()))),
    }
}

/// The catalog that `obj_description`'s second argument names.
fn comment_class(name: &str) -> Option<Oid> {
    match name {
        "pg_class" => Some(class::RELATION),
        "pg_namespace" => Some(class::SCHEMA),
        "pg_constraint" => Some(class::CONSTRAINT),
        "pg_database" => Some(class::DATABASE),
        "pg_authid" => Some(class::ROLE),
        _ => None,
    }
}

struct Call<'a> {
    catalog: &'a Catalog,
    search_path: &'a [String],
    caller: Oid,
}

impl Call<'_> {
    fn relation(&self, name: &str) -> Result<Oid> {
        let found = self.catalog.relation_by_text(name, self.search_path);
        found
            .map(|relation| relation.oid())
            .ok_or_else(|| SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist")))
    }

    fn view_definition(&self, oid: Oid) -> Option<String> {
        self.catalog.view(oid).map(|view| self.catalog.view_definition(view))
    }

    fn serial_sequence(&self, table: &str, column: &str) -> Result<Option<String>> {
        let oid = self.relation(table)?;
        let position = self.catalog.table(oid).and_then(|table| table.column(column)).ok_or_else(|| {
            let message = format!("column \"{column}\" of relation \"{table}\" does not exist");
            SqlError::new(SqlState::UNDEFINED_COLUMN, message)
        })?;
        let owned = self.catalog.sequences().find(|sequence| sequence.owned_by == Some((oid, position)));
        Ok(owned.map(|sequence| self.catalog.qualified_name(sequence.schema, &sequence.name)))
    }

    /// Estimated by ANALYZE: trees do not count their pages.
    fn relation_size(&self, oid: Oid) -> Option<i64> {
        let relation = self.catalog.relation_by_oid(oid)?;
        Some(match relation {
            Relation::Table(table) => {
                table.statistics.as_ref().map_or(0, |found| (found.rows * found.row_bytes) as i64)
            }
            _ => 0,
        })
    }

    /// A role given by name or OID; `public` is 0.
    fn role(&self, role: &Datum) -> Result<Oid> {
        match role {
            Datum::Oid(oid) => Ok(*oid),
            Datum::Text(name) if &**name == "public" => Ok(0),
            Datum::Text(name) => self
                .catalog
                .role_by_name(name)
                .map(|role| role.oid)
                .ok_or_else(|| SqlError::new(SqlState::UNDEFINED_OBJECT, format!("role \"{name}\" does not exist"))),
            other => Err(SqlError::internal(format!("{other:?} is no role"))),
        }
    }

    /// `has_…_privilege([role,] relation, [column,] 'SELECT, INSERT WITH GRANT OPTION')`
    fn has_relation_privilege(&self, function: &str, args: &[Datum]) -> Result<Datum> {
        let with_column = function == "has_column_privilege";
        let args = match (with_column, args) {
            (true, [rest @ .., _, privilege]) => [rest, std::slice::from_ref(privilege)].concat(),
            _ => args.to_vec(),
        };
        let (role, relation, privileges) = match args.as_slice() {
            [relation, Datum::Text(privileges)] => (self.caller, relation, privileges),
            [role, relation, Datum::Text(privileges)] => (self.role(role)?, relation, privileges),
            _ => return Err(SqlError::unsupported(format!("{function}() with these arguments"))),
        };
        let relation = match relation {
            Datum::Oid(oid) if self.catalog.relation_by_oid(*oid).is_none() => return Ok(Datum::Null),
            Datum::Oid(oid) => *oid,
            Datum::Text(name) => self.relation(name)?,
            other => return Err(SqlError::internal(format!("{other:?} is no relation"))),
        };
        for word in privileges.split(',') {
            let word = word.trim().to_uppercase();
            let plain = word.strip_suffix("WITH GRANT OPTION").unwrap_or(&word);
            let privilege = Privilege::from_word(plain).ok_or_else(|| unrecognized(plain))?;
            if self.catalog.has_privilege(role, relation, privilege) {
                return Ok(Datum::Bool(true));
            }
        }
        Ok(Datum::Bool(false))
    }

    /// Everyone may connect to a database and use a schema; its owner and superusers may create in it.
    fn has_container_privilege(&self, function: &str, args: &[Datum]) -> Result<Datum> {
        let (role, container, privileges) = match args {
            [container, Datum::Text(privileges)] => (self.caller, container, privileges),
            [role, container, Datum::Text(privileges)] => (self.role(role)?, container, privileges),
            _ => return Err(SqlError::unsupported(format!("{function}() with these arguments"))),
        };
        let owner = if function == "has_schema_privilege" {
            let oid = match container {
                Datum::Text(name) => self.catalog.schema_oid(name).ok_or_else(|| {
                    SqlError::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{name}\" does not exist"))
                })?,
                Datum::Oid(oid) => *oid,
                other => return Err(SqlError::internal(format!("{other:?} is no schema"))),
            };
            self.catalog.schema(oid).map_or(BOOTSTRAP_ROLE_OID, |schema| schema.owner)
        } else {
            self.database_owner(container)?
        };
        let owns = self.catalog.role(role).is_some_and(|role| role.superuser) || self.catalog.is_member(role, owner);
        let allowed = privileges.split(',').any(|word| match word.trim().to_uppercase().as_str() {
            "USAGE" | "CONNECT" => true,
            _ => owns,
        });
        Ok(Datum::Bool(allowed))
    }

    fn database_owner(&self, database: &Datum) -> Result<Oid> {
        let found = match database {
            Datum::Text(name) => self.catalog.database_by_name(name),
            Datum::Oid(oid) => self.catalog.database(*oid),
            other => return Err(SqlError::internal(format!("{other:?} is no database"))),
        };
        found
            .map(|database| database.owner)
            .ok_or_else(|| SqlError::new(SqlState::INVALID_CATALOG_NAME, "the database does not exist".to_owned()))
    }

    fn has_role(&self, args: &[Datum]) -> Result<Datum> {
        let (member, role) = match args {
            [role, Datum::Text(_)] => (self.caller, self.role(role)?),
            [member, role, Datum::Text(_)] => (self.role(member)?, self.role(role)?),
            _ => return Err(SqlError::unsupported("pg_has_role() with these arguments")),
        };
        let superuser = self.catalog.role(member).is_some_and(|role| role.superuser);
        Ok(Datum::Bool(superuser || self.catalog.is_member(member, role)))
    }
}

fn unrecognized(word: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, format!("unrecognized privilege type: \"{word}\""))
}
