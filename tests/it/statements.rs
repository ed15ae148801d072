//! Finds statements that a cluster sharded by user would refuse, or whose errors it would misreport.
//! The tests read the text of the statements, so they need no such cluster.

use std::fs;
use std::path::{Path, PathBuf};

/// Every SQL string literal in the service's sources, without its line breaks.
fn statements() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for folder in ["src/approach", "src/operations", "src/store", "src/verify"] {
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut files);
    }
    let mut found = Vec::new();
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        let code: String = source
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n");
        for text in literals(&code) {
            let text = text.replace("\\\n", " ").split_whitespace().collect::<Vec<_>>().join(" ");
            if ["SELECT ", "INSERT ", "UPDATE ", "DELETE "].iter().any(|word| text.contains(word)) {
                found.push((file.clone(), text));
            }
        }
    }
    assert!(found.len() > 20, "{found:?}");
    found
}

/// The contents of the string literals: plain, raw, and raw with a hash.
fn literals(code: &str) -> Vec<&str> {
    let (mut found, mut rest) = (Vec::new(), code);
    while let Some(start) = rest.find('"') {
        let (before, after) = (&rest[..start], &rest[start + 1..]);
        let is_raw = before.ends_with('r');
        let end = if before.ends_with("r#") { "\"#" } else { "\"" };
        let mut ends = after.match_indices(end).map(|(end, _)| end);
        let end_of_text = if before.ends_with('\'') {
            0 // The character '"'.
        } else {
            let is_escaped = |end: &usize| !is_raw && after[..*end].ends_with('\\');
            ends.find(|end| !is_escaped(end)).expect("a literal ends")
        };
        found.push(&after[..end_of_text]);
        rest = after[end_of_text..].trim_start_matches('"');
    }
    found
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn rows_are_locked_one_user_at_a_time_or_there_is_another_way() {
    let mut with_another_way = 0;
    for (file, text) in statements() {
        if !text.contains("FOR UPDATE") {
            continue;
        }
        if text.contains("WHERE id = $1") || text.contains("WHERE u.id = $1") {
            continue;
        }
        // The service sends these in another form if they are refused.
        let source = fs::read_to_string(&file).unwrap();
        assert!(source.contains("0A000"), "{}: {text}", file.display());
        with_another_way += 1;
    }
    assert_eq!(with_another_way, 4);
}

#[test]
fn a_used_key_is_never_reported_as_an_internal_error() {
    let mut inserts = 0;
    for (file, text) in statements() {
        for table in ["INSERT INTO idempotency_keys", "INSERT INTO user_creation_keys"] {
            let Some((_, insert)) = text.split_once(table) else { continue };
            inserts += 1;
            // The rows of a plain insert are sent as they are. Those of an insert from a select are
            // copied, and a copy loses the error's code unless the statement returns a column.
            let is_plain =
                insert.trim_start().split_once(')').unwrap().1.trim_start().starts_with("VALUES");
            assert!(is_plain || insert.contains("RETURNING "), "{}: {text}", file.display());
        }
    }
    assert_eq!(inserts, 6);
}

/// SERIALIZABLE can detect a conflict in any of its writes.
#[test]
fn a_lost_race_is_never_reported_as_an_internal_error() {
    let statements = statements();
    let of_the_journal = |(file, text): &&(PathBuf, String)| {
        file.ends_with("approach/read_then_write.rs")
            && text.contains("INSERT INTO balance_changes")
    };
    let (_, text) = statements.iter().find(of_the_journal).expect("the write of a decision");
    assert_eq!(text.matches("INSERT INTO").count(), 2);
    assert_eq!(text.matches("RETURNING user_id").count(), 2, "{text}");
}

#[test]
fn no_generic_plan_is_forced_where_none_can_be_made() {
    for (file, text) in statements() {
        if text.contains("force_generic_plan") {
            assert!(text.contains("extname = 'citus'"), "{}: {text}", file.display());
        }
    }
}

/// A cast from text to an enum is stable, and a cluster refuses stable functions of columns in the `SET`
/// of an update. The array that the column comes from can be cast.
#[test]
fn no_update_casts_a_column_to_an_enum() {
    let mut updates = 0;
    for (file, text) in statements() {
        for update in text.split("UPDATE ").skip(1) {
            let Some((_, set)) = update.split_once(" SET ") else { continue };
            let set = set.split(" FROM ").next().unwrap().split(" WHERE ").next().unwrap();
            updates += 1;
            for kind in ["::change_kind", "::hold_state"] {
                assert!(!set.contains(kind), "{}: {text}", file.display());
            }
        }
    }
    assert!(updates > 5, "{updates}");
}
