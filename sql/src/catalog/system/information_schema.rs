//! `information_schema`: the standard's views of tables, columns, constraints and sequences.

use std::sync::Arc;

use super::relations::indexes_of;
use super::rows::{Rows, row, system_views};
use super::{SystemContext, views as system_views_of};
use crate::catalog::{Catalog, Grant, Oid, Privilege, Table};
use crate::error::Result;
use crate::types::{BaseType, DataType, Numeric};

system_views! { "information_schema"
    13227 information_schema_catalog_name = catalog_name {
        catalog_name: NAME
    }
    13382 schemata = schemata {
        catalog_name: NAME, schema_name: NAME, schema_owner: NAME, default_character_set_catalog: NAME,
        default_character_set_schema: NAME, default_character_set_name: NAME, sql_path: VARCHAR
    }
    13425 tables = tables {
        table_catalog: NAME, table_schema: NAME, table_name: NAME, table_type: VARCHAR,
        self_referencing_column_name: NAME, reference_generation: VARCHAR, user_defined_type_catalog: NAME,
        user_defined_type_schema: NAME, user_defined_type_name: NAME, is_insertable_into: VARCHAR,
        is_typed: VARCHAR, commit_action: VARCHAR
    }
    13295 columns = columns {
        table_catalog: NAME, table_schema: NAME, table_name: NAME, column_name: NAME, ordinal_position: INT4,
        column_default: VARCHAR, is_nullable: VARCHAR, data_type: VARCHAR, character_maximum_length: INT4,
        character_octet_length: INT4, numeric_precision: INT4, numeric_precision_radix: INT4, numeric_scale: INT4,
        datetime_precision: INT4, interval_type: VARCHAR, interval_precision: INT4, character_set_catalog: NAME,
        character_set_schema: NAME, character_set_name: NAME, collation_catalog: NAME, collation_schema: NAME,
        collation_name: NAME, domain_catalog: NAME, domain_schema: NAME, domain_name: NAME, udt_catalog: NAME,
        udt_schema: NAME, udt_name: NAME, scope_catalog: NAME, scope_schema: NAME, scope_name: NAME,
        maximum_cardinality: INT4, dtd_identifier: NAME, is_self_referencing: VARCHAR, is_identity: VARCHAR,
        identity_generation: VARCHAR, identity_start: VARCHAR, identity_increment: VARCHAR,
        identity_maximum: VARCHAR, identity_minimum: VARCHAR, identity_cycle: VARCHAR, is_generated: VARCHAR,
        generation_expression: VARCHAR, is_updatable: VARCHAR
    }
    13483 views = views {
        table_catalog: NAME, table_schema: NAME, table_name: NAME, view_definition: VARCHAR, check_option: VARCHAR,
        is_updatable: VARCHAR, is_insertable_into: VARCHAR, is_trigger_updatable: VARCHAR,
        is_trigger_deletable: VARCHAR, is_trigger_insertable_into: VARCHAR
    }
    13411 table_constraints = table_constraints {
        constraint_catalog: NAME, constraint_schema: NAME, constraint_name: NAME, table_catalog: NAME,
        table_schema: NAME, table_name: NAME, constraint_type: VARCHAR, is_deferrable: VARCHAR,
        initially_deferred: VARCHAR, enforced: VARCHAR, nulls_distinct: VARCHAR
    }
    13329 key_column_usage = key_column_usage {
        constraint_catalog: NAME, constraint_schema: NAME, constraint_name: NAME, table_catalog: NAME,
        table_schema: NAME, table_name: NAME, column_name: NAME, ordinal_position: INT4,
        position_in_unique_constraint: INT4
    }
    13300 constraint_column_usage = constraint_column_usage {
        table_catalog: NAME, table_schema: NAME, table_name: NAME, column_name: NAME, constraint_catalog: NAME,
        constraint_schema: NAME, constraint_name: NAME
    }
    13260 check_constraints = check_constraints {
        constraint_catalog: NAME, constraint_schema: NAME, constraint_name: NAME, check_clause: VARCHAR
    }
    13386 sequences = sequences {
        sequence_catalog: NAME, sequence_schema: NAME, sequence_name: NAME, data_type: VARCHAR,
        numeric_precision: INT4, numeric_precision_radix: INT4, numeric_scale: INT4, start_value: VARCHAR,
        minimum_value: VARCHAR, maximum_value: VARCHAR, increment: VARCHAR, cycle_option: VARCHAR
    }
    13416 table_privileges = table_privileges {
        grantor: NAME, grantee: NAME, table_catalog: NAME, table_schema: NAME, table_name: NAME,
        privilege_type: VARCHAR, is_grantable: VARCHAR, with_hierarchy: VARCHAR
    }
    13421 role_table_grants = table_privileges {
        grantor: NAME, grantee: NAME, table_catalog: NAME, table_schema: NAME, table_name: NAME,
        privilege_type: VARCHAR, is_grantable: VARCHAR, with_hierarchy: VARCHAR
    }
    13325 enabled_roles = enabled_roles {
        role_name: NAME
    }
    13339 referential_constraints = referential_constraints {
        constraint_catalog: NAME, constraint_schema: NAME, constraint_name: NAME, unique_constraint_catalog: NAME,
        unique_constraint_schema: NAME, unique_constraint_name: NAME, match_option: VARCHAR, update_rule: VARCHAR,
        delete_rule: VARCHAR
    }
    13440 triggers = empty {
        trigger_catalog: NAME, trigger_schema: NAME, trigger_name: NAME, event_manipulation: VARCHAR,
        event_object_catalog: NAME, event_object_schema: NAME, event_object_table: NAME, action_order: INT4,
        action_condition: VARCHAR, action_statement: VARCHAR, action_orientation: VARCHAR, action_timing: VARCHAR,
        action_reference_old_table: NAME, action_reference_new_table: NAME, action_reference_old_row: NAME,
        action_reference_new_row: NAME, created: TIMESTAMPTZ
    }
    13478 view_table_usage = view_table_usage {
        view_catalog: NAME, view_schema: NAME, view_name: NAME, table_catalog: NAME, table_schema: NAME,
        table_name: NAME
    }
}

fn empty(_: &SystemContext<'_>, _: &mut Rows) -> Result<()> {
    Ok(())
}

fn yes_or_no(truth: bool) -> &'static str {
    if truth { "YES" } else { "NO" }
}

fn schema<'a>(context: &SystemContext<'a>, oid: Oid) -> &'a str {
    context.catalog.schema_name(oid).unwrap_or_default()
}

/// Tables that the reader may do anything with: the others are not shown.
fn visible_tables<'a>(context: &SystemContext<'a>) -> impl Iterator<Item = &'a Arc<Table>> + use<'a> {
    let reader = context.information().current_role();
    let catalog: &'a Catalog = context.catalog;
    catalog.tables().filter(move |table| may_see(catalog, reader, table.oid))
}

fn may_see(catalog: &Catalog, reader: Oid, relation: Oid) -> bool {
    use Privilege::*;
    [Select, Insert, Update, Delete, Truncate, References, Trigger]
        .into_iter()
        .any(|privilege| catalog.has_privilege(reader, relation, privilege))
}

fn catalog_name(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    row!(rows, catalog_name: context.database_name());
    Ok(())
}

fn schemata(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    let own = context.catalog.schemas().map(|schema| (schema.name.as_str(), schema.owner));
    for (name, owner) in [("pg_catalog", 10), ("information_schema", 10)].into_iter().chain(own) {
        row!(rows,
            catalog_name: context.database_name(), schema_name: name, schema_owner: context.role_name(owner));
    }
    Ok(())
}

fn add_table(context: &SystemContext<'_>, rows: &mut Rows, schema: &str, name: &str, kind: &str) {
    row!(rows,
        table_catalog: context.database_name(), table_schema: schema, table_name: name, table_type: kind,
        is_insertable_into: yes_or_no(kind == "BASE TABLE"), is_typed: "NO");
}

fn tables(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for table in visible_tables(context) {
        add_table(context, rows, schema(context, table.schema), &table.name, "BASE TABLE");
    }
    for view in visible_views(context) {
        add_table(context, rows, schema(context, view.schema), &view.name, "VIEW");
    }
    for view in system_views_of() {
        add_table(context, rows, view.schema, view.name, if view.is_table() { "BASE TABLE" } else { "VIEW" });
    }
    Ok(())
}

fn visible_views<'a>(context: &SystemContext<'a>) -> impl Iterator<Item = &'a Arc<crate::catalog::View>> + use<'a> {
    let reader = context.information().current_role();
    let catalog: &'a Catalog = context.catalog;
    catalog.views().filter(move |view| may_see(catalog, reader, view.oid))
}

/// Sizes of a type: characters and octets, numeric precision, radix and scale, fractional digits.
#[derive(Default)]
struct Sizes {
    characters: Option<i32>,
    octets: Option<i32>,
    precision: Option<i32>,
    radix: Option<i32>,
    scale: Option<i32>,
    digits: Option<i32>,
}

fn sizes(data_type: DataType) -> Sizes {
    let modifier = data_type.modifier;
    let integer = |precision| Sizes { precision: Some(precision), radix: Some(2), scale: Some(0), ..Sizes::default() };
    let float = |precision| Sizes { precision: Some(precision), radix: Some(2), ..Sizes::default() };
    if data_type.array {
        return Sizes::default();
    }
    match data_type.base {
        BaseType::Int2 => integer(16),
        BaseType::Int4 => integer(32),
        BaseType::Int8 => integer(64),
        BaseType::Float4 => float(24),
        BaseType::Float8 => float(53),
        BaseType::Numeric => {
            let (precision, scale) = Numeric::precision_and_scale(modifier).unzip();
            Sizes { precision, radix: Some(10), scale, ..Sizes::default() }
        }
        BaseType::Varchar | BaseType::Bpchar => {
            let characters = (modifier >= 4).then_some(modifier - 4);
            // A character of UTF-8 has at most four bytes.
            let octets = Some(characters.map_or(1 << 30, |count| count.saturating_mul(4)));
            Sizes { characters, octets, ..Sizes::default() }
        }
        BaseType::Text => Sizes { octets: Some(1 << 30), ..Sizes::default() },
        BaseType::Date => Sizes { digits: Some(0), ..Sizes::default() },
        BaseType::Time | BaseType::Timestamp | BaseType::Timestamptz | BaseType::Interval => {
            Sizes { digits: Some(if (0..=6).contains(&modifier) { modifier } else { 6 }), ..Sizes::default() }
        }
        _ => Sizes::default(),
    }
}

/// `data_type` of `information_schema.columns`.
fn type_name(data_type: DataType) -> String {
    if data_type.array { "ARRAY".to_owned() } else { data_type.name() }
}

fn columns(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    let (database, search_path) = (context.database_name(), context.search_path());
    for table in visible_tables(context) {
        for (at, column) in table.live_columns() {
            let sizes = sizes(column.data_type);
            let default = context.catalog.default_definition(column, &search_path);
            let sequence = column.identity.and_then(|identity| context.catalog.sequence(identity.sequence));
            row!(rows,
                table_catalog: database, table_schema: schema(context, table.schema), table_name: &table.name,
                column_name: &column.name, ordinal_position: at as i32 + 1, column_default: default,
                is_nullable: yes_or_no(!column.not_null), data_type: type_name(column.data_type),
                character_maximum_length: sizes.characters, character_octet_length: sizes.octets,
                numeric_precision: sizes.precision, numeric_precision_radix: sizes.radix,
                numeric_scale: sizes.scale, datetime_precision: sizes.digits, udt_catalog: database,
                udt_schema: "pg_catalog", udt_name: column.data_type.internal_name(),
                dtd_identifier: (at + 1).to_string(), is_self_referencing: "NO",
                is_identity: yes_or_no(column.identity.is_some()),
                identity_generation: column.identity.map(|identity| {
                    if identity.always { "ALWAYS" } else { "BY DEFAULT" }
                }),
                identity_start: sequence.map(|sequence| sequence.start.to_string()),
                identity_increment: sequence.map(|sequence| sequence.increment.to_string()),
                identity_maximum: sequence.map(|sequence| sequence.max.to_string()),
                identity_minimum: sequence.map(|sequence| sequence.min.to_string()),
                identity_cycle: sequence.map_or("NO", |sequence| yes_or_no(sequence.cycle)),
                is_generated: "NEVER", is_updatable: "YES");
        }
    }
    let own = visible_views(context).flat_map(|view| {
        let columns = view.columns.iter().map(|(name, data_type)| (name.as_str(), *data_type)).enumerate();
        columns.map(|column| (schema(context, view.schema), view.name.as_str(), column))
    });
    let built_in = system_views_of()
        .flat_map(|view| view.columns.iter().copied().enumerate().map(|column| (view.schema, view.name, column)));
    for (schema, view, (at, (name, data_type))) in own.chain(built_in) {
        let sizes = sizes(data_type);
        row!(rows,
            table_catalog: database, table_schema: schema, table_name: view, column_name: name,
            ordinal_position: at as i32 + 1, is_nullable: "YES", data_type: type_name(data_type),
            character_maximum_length: sizes.characters, character_octet_length: sizes.octets,
            numeric_precision: sizes.precision, numeric_precision_radix: sizes.radix, numeric_scale: sizes.scale,
            datetime_precision: sizes.digits, udt_catalog: database, udt_schema: "pg_catalog",
            udt_name: data_type.internal_name(), dtd_identifier: (at + 1).to_string(), is_self_referencing: "NO",
            is_identity: "NO", identity_cycle: "NO", is_generated: "NEVER", is_updatable: "NO");
    }
    Ok(())
}

fn views(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for view in visible_views(context) {
        row!(rows,
            table_catalog: context.database_name(), table_schema: schema(context, view.schema),
            table_name: &view.name, view_definition: context.catalog.view_definition(view), check_option: "NONE",
            is_updatable: "NO", is_insertable_into: "NO", is_trigger_updatable: "NO", is_trigger_deletable: "NO",
            is_trigger_insertable_into: "NO");
    }
    Ok(())
}

fn view_table_usage(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for view in visible_views(context) {
        for relation in view.dependencies.iter().filter_map(|oid| context.catalog.relation_by_oid(*oid)) {
            row!(rows,
                view_catalog: context.database_name(), view_schema: schema(context, view.schema),
                view_name: &view.name, table_catalog: context.database_name(),
                table_schema: schema(context, relation.schema()), table_name: relation.name());
        }
    }
    Ok(())
}

fn table_constraints(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for table in visible_tables(context) {
        let keys = indexes_of(table).filter(|index| index.constraint_oid().is_some());
        let keys =
            keys.map(|index| (index.name().to_owned(), if index.index.is_none() { "PRIMARY KEY" } else { "UNIQUE" }));
        let checks = table.checks.iter().map(|check| (check.name.clone(), "CHECK"));
        let not_null = table.live_columns().filter(|(_, column)| column.not_null);
        let not_null = not_null.map(|(at, _)| (format!("{}_{}_{}_not_null", table.schema, table.oid, at + 1), "CHECK"));
        let foreign = table.foreign_keys.iter().map(|key| (key.name.clone(), "FOREIGN KEY"));
        for (name, kind) in keys.chain(foreign).chain(checks).chain(not_null) {
            row!(rows,
                constraint_catalog: context.database_name(), constraint_schema: schema(context, table.schema),
                constraint_name: name, table_catalog: context.database_name(),
                table_schema: schema(context, table.schema), table_name: &table.name, constraint_type: kind,
                is_deferrable: "NO", initially_deferred: "NO", enforced: "YES",
                nulls_distinct: (kind == "UNIQUE").then_some("YES"));
        }
    }
    Ok(())
}

fn key_column_usage(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for table in visible_tables(context) {
        for index in indexes_of(table).filter(|index| index.constraint_oid().is_some()) {
            for (at, column) in index.columns().iter().enumerate() {
                row!(rows,
                    constraint_catalog: context.database_name(), constraint_schema: schema(context, table.schema),
                    constraint_name: index.name(), table_catalog: context.database_name(),
                    table_schema: schema(context, table.schema), table_name: &table.name,
                    column_name: &table.columns[column.column].name, ordinal_position: at as i32 + 1);
            }
        }
        for key in &table.foreign_keys {
            let unique = context.catalog.index_by_oid(key.parent_index).map(|index| index.columns());
            for (at, column) in key.columns.iter().enumerate() {
                let place = unique.iter().flatten().position(|unique| unique.column == key.parent_columns[at]);
                row!(rows,
                    constraint_catalog: context.database_name(), constraint_schema: schema(context, table.schema),
                    constraint_name: &key.name, table_catalog: context.database_name(),
                    table_schema: schema(context, table.schema), table_name: &table.name,
                    column_name: &table.columns[*column].name, ordinal_position: at as i32 + 1,
                    position_in_unique_constraint: place.map(|place| place as i32 + 1));
            }
        }
    }
    Ok(())
}

fn constraint_column_usage(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for table in visible_tables(context) {
        let mut add = |constraint: &str, column: &str| {
            row!(rows,
                table_catalog: context.database_name(), table_schema: schema(context, table.schema),
                table_name: &table.name, column_name: column, constraint_catalog: context.database_name(),
                constraint_schema: schema(context, table.schema), constraint_name: constraint);
        };
        // Of a foreign key the columns that it refers to.
        for (_, key) in context.catalog.references_to(table.oid) {
            key.parent_columns.iter().for_each(|column| add(&key.name, &table.columns[*column].name));
        }
        for index in indexes_of(table).filter(|index| index.constraint_oid().is_some()) {
            index.columns().iter().for_each(|column| add(index.name(), &table.columns[column.column].name));
        }
        for check in &table.checks {
            for (_, column) in table.live_columns() {
                if super::super::ddl::mentions_column(&check.expression, column)? {
                    add(&check.name, &column.name);
                }
            }
        }
    }
    Ok(())
}

fn referential_constraints(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for table in visible_tables(context) {
        for key in &table.foreign_keys {
            let Some(index) = context.catalog.index_by_oid(key.parent_index) else { continue };
            // A unique index without a constraint has no name in the standard's sense.
            let unique = index.constraint_oid().map(|_| index.name());
            row!(rows,
                constraint_catalog: context.database_name(), constraint_schema: schema(context, table.schema),
                constraint_name: &key.name, unique_constraint_catalog: unique.map(|_| context.database_name()),
                unique_constraint_schema: unique.map(|_| schema(context, index.table.schema)),
                unique_constraint_name: unique, match_option: if key.match_full { "FULL" } else { "NONE" },
                update_rule: key.on_update.sql(), delete_rule: key.on_delete.sql());
        }
    }
    Ok(())
}

fn check_constraints(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for table in visible_tables(context) {
        let checks = table.checks.iter().map(|check| (check.name.clone(), format!("({})", check.expression)));
        let not_null = table.live_columns().filter(|(_, column)| column.not_null).map(|(at, column)| {
            let name = format!("{}_{}_{}_not_null", table.schema, table.oid, at + 1);
            (name, format!("{} IS NOT NULL", column.name))
        });
        for (name, clause) in checks.chain(not_null) {
            row!(rows,
                constraint_catalog: context.database_name(), constraint_schema: schema(context, table.schema),
                constraint_name: name, check_clause: clause);
        }
    }
    Ok(())
}

fn sequences(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for sequence in context.catalog.sequences().filter(|sequence| !sequence.identity) {
        let sizes = sizes(sequence.data_type);
        row!(rows,
            sequence_catalog: context.database_name(), sequence_schema: schema(context, sequence.schema),
            sequence_name: &sequence.name, data_type: sequence.data_type.name(), numeric_precision: sizes.precision,
            numeric_precision_radix: sizes.radix, numeric_scale: sizes.scale,
            start_value: sequence.start.to_string(), minimum_value: sequence.min.to_string(),
            maximum_value: sequence.max.to_string(), increment: sequence.increment.to_string(),
            cycle_option: yes_or_no(sequence.cycle));
    }
    Ok(())
}

fn table_privileges(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    use Privilege::*;
    let all = [Insert, Select, Update, Delete, Truncate, References, Trigger];
    for table in context.catalog.tables() {
        let privileges = all.into_iter().map(|privilege| (privilege, true)).collect();
        let own = Grant { grantee: table.owner, grantor: table.owner, privileges };
        for grant in std::iter::once(&own).chain(&table.privileges) {
            let grantee = if grant.grantee == 0 { "PUBLIC".to_owned() } else { context.role_name(grant.grantee) };
            for (privilege, grantable) in &grant.privileges {
                row!(rows,
                    grantor: context.role_name(grant.grantor), grantee: &grantee,
                    table_catalog: context.database_name(), table_schema: schema(context, table.schema),
                    table_name: &table.name, privilege_type: privilege.word(),
                    is_grantable: yes_or_no(*grantable), with_hierarchy: yes_or_no(*privilege == Select));
            }
        }
    }
    Ok(())
}

fn enabled_roles(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    let reader = context.information().current_role();
    for role in context.catalog.roles().filter(|role| context.catalog.is_member(reader, role.oid)) {
        row!(rows, role_name: &role.name);
    }
    Ok(())
}
