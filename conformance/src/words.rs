//! The words of a list.

/// How lists call this node, or the member that keeps it.
pub(crate) fn node_name(node: usize) -> String {
    format!("n{}", node + 1)
}

/// How many nodes a list can name.
const NODES: usize = pgherd_sim::fakes::FakePostgres::NODES;

/// Reads a list, line by line; `#` begins a remark.
pub(crate) fn lines<T>(
    text: &str,
    read: impl Fn(&mut Words<'_>) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let mut all = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = Words::of(line);
        if words.is_empty() {
            continue;
        }
        let one = read(&mut words).and_then(|one| words.end().map(|()| one));
        all.push(one.map_err(|error| format!("line {}: {error}", number + 1))?);
    }
    Ok(all)
}

/// What is left of a line.
pub(crate) struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    pub(crate) fn of(line: &'a str) -> Words<'a> {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        words.reverse();
        Words(words)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn next(&mut self, expected: &str) -> Result<&'a str, String> {
        let end = || format!("it ends where {expected} was expected");
        self.0.pop().ok_or_else(end)
    }

    /// Takes this word, if it is the next one.
    pub(crate) fn is_next(&mut self, word: &str) -> bool {
        let is = self.0.last() == Some(&word);
        if is {
            self.0.pop();
        }
        is
    }

    pub(crate) fn end(&mut self) -> Result<(), String> {
        match self.0.pop() {
            None => Ok(()),
            Some(word) => Err(format!("`{word}` was not expected")),
        }
    }

    pub(crate) fn node(&mut self) -> Result<usize, String> {
        let word = self.next("a node")?;
        let node = (0..NODES).find(|node| node_name(*node) == word);
        node.ok_or_else(|| format!("`{word}` is no node (n1 to n{NODES})"))
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> String {
        let mut words = std::mem::take(&mut self.0);
        words.reverse();
        words.join(" ")
    }

    pub(crate) fn number(&mut self) -> Result<u64, String> {
        let word = self.next("a number")?;
        word.parse().map_err(|_| format!("`{word}` is no number"))
    }
}
