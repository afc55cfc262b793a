//! ALTER TABLE. Dropping a column and adding one with a constant default touch the catalog only; primary
//! keys and most changes of type write the table anew, because its rows are stored by primary key.

use std::sync::Arc;

use sqlparser::ast::{
    AlterColumnOperation, AlterTable, AlterTableOperation, ColumnDef, DataType as TypeName, Expr as AstExpr,
    GeneratedAs, RenameTableNameKind, SqlOption,
};

use super::CommandTag;
use super::alter_relation::rename_index;
use super::constraint::{ConstraintKind, FoundConstraint, NewConstraint, find_constraint};
use super::create_table::{add_column, column_type, default_of};
use super::drop::{Target, missing};
use super::evaluate::is_volatile;
use super::expression::{mentions_column, rename_column};
use super::sequence::SequenceSpec;
use super::work::{QualifiedName, Work, duplicate_relation, identifier, qualified, simple};
use crate::catalog::{Check, Identity, Oid, PrimaryKey, Relation, Table, class};
use crate::error::{Result, SqlError, SqlState};
use crate::plan::Expr;
use crate::store::TableLockMode;
use crate::types::cast::{CastContext, can_cast};
use crate::types::text::quote_identifier;
use crate::types::{BaseType, DataType, Datum};

/// ALTER TABLE.
pub(super) fn alter(work: &mut Work<'_>, statement: &AlterTable) -> Result<CommandTag> {
    let tag = CommandTag("ALTER TABLE".into());
    let name = qualified(&statement.name, work)?;
    if statement.if_exists && work.find(&name)?.is_none() {
        missing(work, true, SqlState::UNDEFINED_TABLE, "relation", &name.to_string())?;
        return Ok(tag);
    }
    // RENAME and OWNER also take views, indexes and sequences.
    if let [AlterTableOperation::RenameTable { table_name }] = statement.operations.as_slice() {
        let (RenameTableNameKind::As(to) | RenameTableNameKind::To(to)) = table_name;
        super::alter_relation::rename(work, &name, simple(to)?)?;
        return Ok(tag);
    }
    if let [AlterTableOperation::OwnerTo { new_owner }] = statement.operations.as_slice() {
        let owner = work.owner(new_owner)?;
        super::alter_relation::set_owner(work, &name, owner)?;
        return Ok(tag);
    }
    if let [AlterTableOperation::RenameColumn { old_column_name, new_column_name }] = statement.operations.as_slice()
        && let Some(Relation::View(_)) = work.find(&name)?
    {
        let (from, to) = (identifier(old_column_name), identifier(new_column_name));
        super::alter_relation::rename_view_column(work, &name, &from, to)?;
        return Ok(tag);
    }
    let oid = work.lock_table(&name, TableLockMode::AccessExclusive)?.oid;
    for operation in &statement.operations {
        apply(work, oid, operation)?;
    }
    Ok(tag)
}

fn table_of(work: &Work<'_>, oid: Oid) -> Result<Arc<Table>> {
    work.catalog.table(oid).cloned().ok_or_else(|| SqlError::internal("a locked table is gone"))
}

/// Position of a column, or 42703.
pub(super) fn position(table: &Table, name: &str) -> Result<usize> {
    table.column(name).ok_or_else(|| {
        let message = format!("column \"{name}\" of relation \"{}\" does not exist", table.name);
        SqlError::new(SqlState::UNDEFINED_COLUMN, message)
    })
}

fn apply(work: &mut Work<'_>, oid: Oid, operation: &AlterTableOperation) -> Result<()> {
    use AlterTableOperation::*;
    let table = table_of(work, oid)?;
    match operation {
        AddColumn { if_not_exists, column_def, column_position: None, .. } => {
            work.add_table_column(&table, column_def, *if_not_exists)
        }
        DropColumn { column_names, if_exists, drop_behavior, .. } => {
            let cascade = matches!(drop_behavior, Some(sqlparser::ast::DropBehavior::Cascade));
            for name in column_names {
                let table = table_of(work, oid)?;
                work.drop_column(&table, &identifier(name), *if_exists, cascade)?;
            }
            Ok(())
        }
        AddConstraint { not_valid: true, .. } => Err(SqlError::unsupported("a NOT VALID constraint")),
        AddConstraint { constraint, .. } => work.add_constraint(&table, NewConstraint::of_table(constraint)?),
        DropConstraint { if_exists, name, drop_behavior } => {
            let cascade = matches!(drop_behavior, Some(sqlparser::ast::DropBehavior::Cascade));
            work.drop_constraint(&table, &identifier(name), *if_exists, cascade)
        }
        RenameColumn { old_column_name, new_column_name } => {
            work.rename_column(&table, &identifier(old_column_name), identifier(new_column_name))
        }
        RenameConstraint { old_name, new_name } => {
            work.rename_constraint(&table, &identifier(old_name), identifier(new_name))
        }
        AlterColumn { column_name, op } => {
            let column = position(&table, &identifier(column_name))?;
            work.alter_column(&table, column, op)
        }
        OwnerTo { new_owner } => {
            let owner = work.owner(new_owner)?;
            let name = QualifiedName {
                schema: work.catalog.schema_name(table.schema).map(str::to_owned),
                name: table.name.clone(),
            };
            super::alter_relation::set_owner(work, &name, owner)
        }
        SetOptionsParens { options } => work.set_options(&table, options),
        ValidateConstraint { name } => match find_constraint(&table, &identifier(name)) {
            Some(_) => Ok(()),
            None => Err(undefined_constraint(&table, &identifier(name))),
        },
        other => Err(SqlError::unsupported(format!("ALTER TABLE {other}"))),
    }
}

fn undefined_constraint(table: &Table, name: &str) -> SqlError {
    let message = format!("constraint \"{name}\" of relation \"{}\" does not exist", table.name);
    SqlError::new(SqlState::UNDEFINED_OBJECT, message)
}

impl Work<'_> {
    fn set_options(&mut self, table: &Table, options: &[SqlOption]) -> Result<()> {
        let given = super::options::table_parameters(options)?;
        let mut table = table.clone();
        let name = |option: &str| option.split('=').next().unwrap_or_default().to_owned();
        table.options.retain(|old| !given.iter().any(|new| name(new) == name(old)));
        table.options.extend(given);
        self.put_table(table)
    }

    fn add_table_column(&mut self, old: &Arc<Table>, definition: &ColumnDef, if_not_exists: bool) -> Result<()> {
        let name = identifier(&definition.name);
        if old.column(&name).is_some() {
            let message = format!("column \"{name}\" of relation \"{}\" already exists", old.name);
            if if_not_exists {
                self.notice(SqlState::DUPLICATE_COLUMN, message + ", skipping");
                return Ok(());
            }
            return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message));
        }
        let new = self.new_column(old, definition)?;
        let (mut column, at) = (new.column, old.columns.len());
        let default = match (&column.default, column.identity) {
            (Some(text), _) => Some(self.check_default(text, &name, column.data_type)?),
            (None, Some(identity)) => {
                let text = format!("nextval('{}'::regclass)", identity.sequence);
                Some(self.check_default(&text, &name, column.data_type)?)
            }
            (None, None) => None,
        };
        self.next_layer()?;
        let empty = self.is_empty(old)?;
        let mut table = Table::clone(old);
        match default {
            Some(expr) if !empty && is_volatile(&expr) => {
                add_column(&mut table, column)?;
                self.rewrite_computed(old, table, vec![(at, expr)])?;
            }
            default => {
                if let (Some(expr), false) = (default, empty) {
                    column.missing = self.evaluate(expr)?;
                }
                if column.not_null && column.missing.is_null() && !empty {
                    let message = format!("column \"{name}\" of relation \"{}\" contains null values", table.name);
                    return Err(SqlError::new(SqlState::NOT_NULL_VIOLATION, message)
                        .of_table(table.schema, &table.name)
                        .with_column(name));
                }
                add_column(&mut table, column)?;
                self.put_table(table)?;
            }
        }
        new.constraints.into_iter().try_for_each(|constraint| {
            let table = table_of(self, old.oid)?;
            self.add_constraint(&table, constraint)
        })
    }

    /// Writes a table anew under a changed descriptor, with some columns computed from the old row.
    fn rewrite_computed(&mut self, old: &Arc<Table>, new: Table, computed: Vec<(usize, Expr)>) -> Result<()> {
        self.next_layer()?;
        let new = Arc::new(self.with_new_trees(&new)?);
        self.rewrite(old, &new, |visit| self.for_each_computed(old, computed, visit))?;
        self.put_table(Table::clone(&new))?;
        self.next_layer()
    }

    /// Writes a table anew under a descriptor with another primary key.
    fn recluster(&mut self, old: &Arc<Table>, new: Table) -> Result<()> {
        self.next_layer()?;
        let new = Arc::new(self.with_new_trees(&new)?);
        self.recluster_rows(old, &new)?;
        self.put_table(Table::clone(&new))?;
        self.next_layer()
    }

    fn add_constraint(&mut self, old: &Arc<Table>, constraint: NewConstraint) -> Result<()> {
        let mut table = Table::clone(old);
        let is_primary = matches!(constraint.kind, ConstraintKind::PrimaryKey(_));
        self.attach_constraint(&mut table, constraint)?;
        self.next_layer()?;
        if is_primary {
            let added = table.primary_key.as_ref().map_or(&[][..], |key| &key.columns);
            for column in added {
                if !old.columns[*column].not_null {
                    self.validate_not_null(old, *column)?;
                }
            }
            return self.recluster(old, table);
        }
        if table.checks.len() > old.checks.len() {
            let check = &table.checks[old.checks.len()];
            self.validate_check(old, &check.name, &check.expression)?;
        }
        if table.foreign_keys.len() > old.foreign_keys.len() {
            self.validate_foreign_key(old, &table.foreign_keys[old.foreign_keys.len()])?;
        }
        if table.indexes.len() > old.indexes.len() {
            self.build_index(old, &table.indexes[old.indexes.len()])?;
        }
        self.put_table(table)
    }

    fn drop_constraint(&mut self, old: &Arc<Table>, name: &str, if_exists: bool, cascade: bool) -> Result<()> {
        let found = find_constraint(old, name);
        let index = match found {
            Some(FoundConstraint::PrimaryKey) => old.primary_key.as_ref().map(|key| key.oid),
            Some(FoundConstraint::Unique(oid)) => Some(oid),
            _ => None,
        };
        if let Some(index) = index {
            self.release_index(index, &format!("constraint {name} on table {}", old.name), cascade)?;
        }
        // A foreign key of the table to itself may have gone.
        let old = &table_of(self, old.oid)?;
        let mut table = Table::clone(old);
        match found {
            Some(FoundConstraint::ForeignKey(at)) => self.drop_foreign_key(old.oid, old.foreign_keys[at].oid),
            Some(FoundConstraint::PrimaryKey) => {
                let key = table.primary_key.take();
                self.forget_key(key)?;
                self.recluster(old, table)
            }
            Some(FoundConstraint::Unique(oid)) => {
                self.remove_index(&mut table, oid)?;
                self.put_table(table)
            }
            Some(FoundConstraint::Check(at)) => {
                let check = table.checks.remove(at);
                self.delete_comments(class::CONSTRAINT, check.oid)?;
                self.put_table(table)
            }
            None if if_exists => {
                let message = format!("constraint \"{name}\" of relation \"{}\" does not exist, skipping", old.name);
                self.notice(SqlState::SUCCESSFUL_COMPLETION, message);
                Ok(())
            }
            None => Err(undefined_constraint(old, name)),
        }
    }

    fn forget_key(&mut self, key: Option<PrimaryKey>) -> Result<()> {
        let Some(key) = key else { return Ok(()) };
        self.delete_comments(class::RELATION, key.oid)?;
        self.delete_comments(class::CONSTRAINT, key.constraint_oid)
    }

    fn remove_index(&mut self, table: &mut Table, oid: Oid) -> Result<()> {
        if let Some(index) = table.index(oid).cloned() {
            self.context.transaction.drop_tree(index.tree())?;
            self.delete_comments(class::RELATION, oid)?;
            self.delete_comments(class::CONSTRAINT, index.constraint_oid)?;
            table.indexes.retain(|index| index.oid != oid);
        }
        Ok(())
    }

    /// Views that read a column of a table.
    fn views_reading(&self, table: &Table, column: usize) -> Result<Vec<Oid>> {
        let mut found = Vec::new();
        for view in self.catalog.views().filter(|view| view.dependencies.contains(&table.oid)) {
            if super::view::mentions(&view.query, &table.columns[column].name)? {
                found.push(view.oid);
            }
        }
        Ok(found)
    }

    fn drop_column(&mut self, old: &Arc<Table>, name: &str, if_exists: bool, cascade: bool) -> Result<()> {
        let Some(at) = old.column(name) else {
            let message = format!("column \"{name}\" of relation \"{}\" does not exist", old.name);
            if if_exists {
                self.notice(SqlState::SUCCESSFUL_COMPLETION, message + ", skipping");
                return Ok(());
            }
            return Err(SqlError::new(SqlState::UNDEFINED_COLUMN, message));
        };
        let views = self.views_reading(old, at)?;
        let keys = self.references_to_column(old, at);
        let mut dependents: Vec<(Oid, String)> =
            views.iter().map(|view| (*view, format!("view {}", self.shown_name(*view)))).collect();
        dependents.extend(keys.iter().map(|key| (key.1, self.describe_foreign_key(*key))));
        dependents.sort_by_key(|(oid, _)| *oid);
        if !dependents.is_empty() && !cascade {
            let lines: Vec<_> = dependents
                .iter()
                .map(|(_, dependent)| format!("{dependent} depends on column {name} of table {}", old.name))
                .collect();
            let message = format!("cannot drop column {name} of table {} because other objects depend on it", old.name);
            return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message)
                .with_detail(lines.join("\n"))
                .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
        }
        let lines = dependents.iter().map(|(_, dependent)| format!("drop cascades to {dependent}"));
        self.cascade_notice(&lines.collect::<Vec<_>>());
        self.drop_targets(keys.into_iter().map(|(table, key)| Target::ForeignKey(table, key)).collect(), true)?;
        let owned: Vec<_> = self
            .catalog
            .sequences()
            .filter(|sequence| sequence.owned_by == Some((old.oid, at)))
            .map(|sequence| Target::Sequence(sequence.oid))
            .collect();
        let mut table = Table::clone(old);
        let column = &mut table.columns[at];
        (column.dropped, column.not_null, column.default, column.identity) = (true, false, None, None);
        let (gone, kept): (Vec<_>, Vec<Check>) = table.checks.into_iter().try_fold(
            (Vec::new(), Vec::new()),
            |(mut gone, mut kept), check| -> Result<_> {
                if mentions_column(&check.expression, &old.columns[at])? {
                    gone.push(check)
                } else {
                    kept.push(check)
                }
                Ok((gone, kept))
            },
        )?;
        table.checks = kept;
        let gone_keys: Vec<Oid> = table
            .foreign_keys
            .iter()
            .filter(|key| key.columns.contains(&at) || (key.parent == old.oid && key.parent_columns.contains(&at)))
            .map(|key| key.oid)
            .collect();
        table.foreign_keys.retain(|key| !gone_keys.contains(&key.oid));
        gone_keys.iter().try_for_each(|key| self.delete_comments(class::CONSTRAINT, *key))?;
        gone.iter().try_for_each(|check| self.delete_comments(class::CONSTRAINT, check.oid))?;
        let over: Vec<Oid> = table
            .indexes
            .iter()
            .filter(|index| index.columns.iter().any(|column| column.column == at))
            .map(|index| index.oid)
            .collect();
        over.into_iter().try_for_each(|index| self.remove_index(&mut table, index))?;
        self.delete_key(crate::catalog::object::comment_key(
            self.context.database,
            class::RELATION,
            old.oid,
            at as i32 + 1,
        ))?;
        if table.primary_key.as_ref().is_some_and(|key| key.columns.contains(&at)) {
            let key = table.primary_key.take();
            self.forget_key(key)?;
            self.recluster(old, table)?;
        } else {
            self.put_table(table)?;
        }
        self.drop_targets(owned, true)?;
        self.drop_targets(views.into_iter().map(Target::View).collect(), true)
    }

    fn rename_column(&mut self, old: &Arc<Table>, from: &str, to: String) -> Result<()> {
        let at = position(old, from)?;
        if old.column(&to).is_some() {
            let message = format!("column \"{to}\" of relation \"{}\" already exists", old.name);
            return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message));
        }
        if let Some(view) = self.views_reading(old, at)?.first() {
            let feature = format!("renaming column \"{from}\", which view \"{}\" reads,", self.shown_name(*view));
            return Err(SqlError::unsupported(feature));
        }
        let mut table = Table::clone(old);
        for check in &mut table.checks {
            check.expression = rename_column(&check.expression, from, &to)?;
        }
        table.columns[at].name = to;
        self.put_table(table)
    }

    fn rename_constraint(&mut self, old: &Arc<Table>, from: &str, to: String) -> Result<()> {
        let found = find_constraint(old, from).ok_or_else(|| {
            let message = format!("constraint \"{from}\" for table \"{}\" does not exist", old.name);
            SqlError::new(SqlState::UNDEFINED_OBJECT, message)
        })?;
        let mut table = Table::clone(old);
        match found {
            FoundConstraint::Check(_) | FoundConstraint::ForeignKey(_) => {
                if find_constraint(old, &to).is_some() {
                    let message = format!("constraint \"{to}\" for relation \"{}\" already exists", old.name);
                    return Err(SqlError::new(SqlState::DUPLICATE_OBJECT, message));
                }
                match found {
                    FoundConstraint::ForeignKey(at) => table.foreign_keys[at].name = to,
                    FoundConstraint::Check(at) => table.checks[at].name = to,
                    FoundConstraint::PrimaryKey | FoundConstraint::Unique(_) => {}
                }
            }
            FoundConstraint::PrimaryKey | FoundConstraint::Unique(_) => {
                self.lock_name(old.schema, &to)?;
                if self.catalog.relation_in(old.schema, &to).is_some() {
                    return Err(duplicate_relation(&to));
                }
                rename_index(&mut table, from, &to);
            }
        }
        self.put_table(table)
    }

    fn alter_column(&mut self, old: &Arc<Table>, at: usize, operation: &AlterColumnOperation) -> Result<()> {
        let mut table = Table::clone(old);
        let name = old.columns[at].name.clone();
        match operation {
            AlterColumnOperation::SetNotNull => {
                self.next_layer()?;
                self.validate_not_null(old, at)?;
                table.columns[at].not_null = true;
            }
            AlterColumnOperation::DropNotNull => {
                if table.primary_key.as_ref().is_some_and(|key| key.columns.contains(&at)) {
                    let message = format!("column \"{name}\" is in a primary key");
                    return Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message));
                }
                if table.columns[at].identity.is_some() {
                    let message = format!("column \"{name}\" of relation \"{}\" is an identity column", old.name);
                    return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
                }
                table.columns[at].not_null = false;
            }
            AlterColumnOperation::SetDefault { value } => {
                refuse_identity(old, at)?;
                let default = default_of(self, value)?;
                if let Some(text) = &default {
                    self.check_default(text, &name, table.columns[at].data_type)?;
                }
                table.columns[at].default = default;
            }
            AlterColumnOperation::DropDefault => {
                refuse_identity(old, at)?;
                table.columns[at].default = None;
            }
            AlterColumnOperation::SetDataType { data_type, using, .. } => {
                return self.alter_type(old, at, data_type, using.as_ref());
            }
            AlterColumnOperation::AddGenerated { generated_as, sequence_options } => {
                if table.columns[at].identity.is_some() || table.columns[at].default.is_some() {
                    let what = if table.columns[at].identity.is_some() { "an identity column" } else { "a default" };
                    let message = format!("column \"{name}\" of relation \"{}\" already has {what}", old.name);
                    return Err(SqlError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message));
                }
                if !table.columns[at].not_null {
                    let message = format!(
                        "column \"{name}\" of relation \"{}\" must be declared NOT NULL before identity can be added",
                        old.name
                    );
                    return Err(SqlError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message));
                }
                let always = !matches!(generated_as, Some(GeneratedAs::ByDefault));
                let spec = SequenceSpec::new(None, sequence_options.as_deref().unwrap_or_default())?;
                let data_type = table.columns[at].data_type;
                let identity: Identity = self.new_identity(old, (&name, at), data_type, always, &spec)?;
                table.columns[at].identity = Some(identity);
            }
        }
        self.put_table(table)
    }

    fn alter_type(&mut self, old: &Arc<Table>, at: usize, name: &TypeName, using: Option<&AstExpr>) -> Result<()> {
        let column = &old.columns[at];
        let target = column_type(name, &column.name)?;
        if let Some(view) = self.views_reading(old, at)?.first() {
            let message = "cannot alter type of a column used by a view or rule";
            let detail = format!("view {} depends on column \"{}\"", self.shown_name(*view), column.name);
            return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message).with_detail(detail));
        }
        let mut table = Table::clone(old);
        table.columns[at].data_type = target;
        for index in table.indexes.iter().filter(|index| index.columns.iter().any(|column| column.column == at)) {
            super::index::require_indexable(&table.columns[at])
                .map_err(|error| error.with_context(format!("index \"{}\"", index.name)))?;
        }
        if let Some(text) = &column.default {
            self.check_default(text, &column.name, target).map_err(|_| {
                let message = format!(
                    "default for column \"{}\" cannot be cast automatically to type {}",
                    column.name,
                    target.name()
                );
                SqlError::new(SqlState::DATATYPE_MISMATCH, message)
            })?;
        }
        for check in &table.checks {
            self.check_condition(&check.expression, &table)?;
        }
        if using.is_none() && same_values(column.data_type, target) {
            return self.put_table(table);
        }
        let referenced = self.catalog.references_to(old.oid);
        if old.foreign_keys.iter().any(|key| key.columns.contains(&at))
            || referenced.iter().any(|(_, key)| key.parent_columns.contains(&at))
        {
            return Err(SqlError::unsupported("changing the type of a foreign key's column"));
        }
        let text = match using {
            Some(expr) => expr.to_string(),
            None if can_cast(column.data_type, target, CastContext::Assignment) => quote_identifier(&column.name),
            None => {
                let message =
                    format!("column \"{}\" cannot be cast automatically to type {}", column.name, target.name());
                let hint = format!(
                    "You might need to specify \"USING {}::{}\".",
                    quote_identifier(&column.name),
                    target.name()
                );
                return Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message).with_hint(hint));
            }
        };
        let computed = self.bind(&text, Some(old), Some(target))?;
        table.columns[at].missing = Datum::Null;
        self.rewrite_computed(old, table, vec![(at, computed)])
    }
}

/// Identity columns have no default to be set or dropped.
fn refuse_identity(table: &Table, at: usize) -> Result<()> {
    let column = &table.columns[at];
    if column.identity.is_none() {
        return Ok(());
    }
    let message = format!("column \"{}\" of relation \"{}\" is an identity column", column.name, table.name);
    Err(SqlError::new(SqlState::SYNTAX_ERROR, message))
}

/// Whether every value of one type is the same value, stored the same way, of the other.
fn same_values(from: DataType, to: DataType) -> bool {
    let text = |base| matches!(base, BaseType::Text | BaseType::Varchar);
    if from == to {
        return true;
    }
    if from.array || to.array {
        return false;
    }
    if text(from.base) && text(to.base) {
        return to.modifier < 0 || (from.modifier >= 0 && from.modifier <= to.modifier);
    }
    from.base == to.base && to.modifier < 0 && from.base != BaseType::Bpchar
}
