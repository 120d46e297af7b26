//! Many names in a sentence.

/// Names in a sentence; of very many the first ones, and how many more there are.
pub fn names<S: AsRef<str>>(names: &[S]) -> String {
    const SHOWN: usize = 50;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(AsRef::as_ref).collect();
    let shown = shown.join(", ");
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_very_many_names_the_first_are_told() {
        assert_eq!(names(&["a", "b"]), "a, b");
        let many: Vec<String> = (0..60).map(|at| format!("c{at}")).collect();
        assert!(names(&many).ends_with("c48, c49 and 10 more"));
        assert!(names(&many[..50]).ends_with("c48, c49"));
    }
}
