//! The plain part of YAML, read in one pass: block collections, flow collections, plain, quoted and block scalars.
//!
//! Nearly every workflow file keeps to it, and takes a third of the time that way. Whatever is rarer (anchors, tags,
//! tabs, CRLF, keys of several lines, escapes) or may be a fault gives `None`, and the reader in [`super::yaml`] decides;
//! where this one answers, both give the same tree. The fuzz target `workflow` holds them against each other.
//!
//! Pure: no I/O, no clock, no async.

use super::yaml::{Content, Node, NodeId, core_number};

/// YAML's limit for a key is 1024 characters.
const LONGEST_KEY: usize = 1000;

/// Reads a file, if it is plain. `depth` is how many collections may be nested.
pub(super) fn read(text: &str, depth: usize) -> Option<Node> {
    if text.bytes().fold(false, |odd, byte| odd | (byte < b' ' && byte != b'\n' && byte != b'\t') | (byte == 0x7f))
        || !text.is_ascii() && text.chars().any(is_odd)
    {
        return None;
    }
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0, line: 0, indent: 0, next: 0, depth, margin: 0 };
    reader.seek_line()?;
    if reader.is_marker() {
        if !reader.bytes[reader.at..].starts_with(b"---") {
            return None;
        }
        reader.at += 3;
        reader.end_line()?;
    }
    let root = reader.node(-1, true)?;
    (reader.indent < 0 && matches!(root.content, Content::Map(_))).then_some(root)
}

/// Line breaks of YAML 1.1, marks, and what no YAML may hold.
fn is_odd(c: char) -> bool {
    matches!(c, '\u{80}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

struct Reader<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    /// Where the line begins.
    line: usize,
    /// The column of the first thing in the line; -1 at the end of the file.
    indent: isize,
    next: NodeId,
    /// Collections that may still be opened.
    depth: usize,
    /// The column of the block collection around a flow collection.
    margin: isize,
}

/// A scalar of one line, before any schema.
enum Scalar {
    Plain(String),
    Quoted(String),
}

impl Scalar {
    fn content(self) -> Content {
        match self {
            Self::Quoted(text) => Content::Text(text),
            Self::Plain(text) => match text.as_str() {
                "" | "~" | "null" | "Null" | "NULL" => Content::Null,
                "true" | "True" | "TRUE" => Content::Bool(true),
                "false" | "False" | "FALSE" => Content::Bool(false),
                _ => core_number(&text).map_or(Content::Text(text), Content::Number),
            },
        }
    }
}

impl<'t> Reader<'t> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn after(&self, distance: usize) -> Option<u8> {
        self.bytes.get(self.at + distance).copied()
    }

    fn id(&mut self) -> NodeId {
        let id = self.next;
        self.next += 1;
        id
    }

    fn column(&self) -> isize {
        isize::try_from(self.at - self.line).unwrap_or(isize::MAX)
    }

    fn line_end(&self) -> usize {
        self.text[self.at..].find('\n').map_or(self.bytes.len(), |length| self.at + length)
    }

    fn skip_spaces(&mut self) -> usize {
        let from = self.at;
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
        self.at - from
    }

    /// From the beginning of a line to the first thing in it or in a later one.
    fn seek_line(&mut self) -> Option<()> {
        loop {
            self.line = self.at;
            self.skip_spaces();
            match self.peek() {
                None => {
                    self.indent = -1;
                    return Some(());
                }
                Some(b'\n') => self.at += 1,
                Some(b'#') => self.at = (self.line_end() + 1).min(self.bytes.len()),
                Some(b'\t') => return None,
                Some(_) => {
                    self.indent = self.column();
                    return Some(());
                }
            }
        }
    }

    /// Whether the line begins a document, ends one or speaks to the parser.
    fn is_marker(&self) -> bool {
        let rest = &self.bytes[self.at..];
        self.indent == 0 && (rest.starts_with(b"---") || rest.starts_with(b"...") || rest.starts_with(b"%"))
    }

    /// Nothing but a comment may follow in this line; goes on to the next.
    fn end_line(&mut self) -> Option<()> {
        let spaces = self.skip_spaces();
        match self.peek() {
            None | Some(b'\n') => {}
            Some(b'#') if spaces > 0 => self.at = self.line_end(),
            Some(_) => return None,
        }
        self.at = (self.at + 1).min(self.bytes.len());
        self.seek_line()?;
        (!self.is_marker()).then_some(())
    }

    /// Whether the line ends here, but for spaces and a comment.
    fn at_line_end(&self) -> bool {
        let spaces = self.bytes[self.at..].iter().take_while(|&&byte| byte == b' ').count();
        match self.after(spaces) {
            None | Some(b'\n') => true,
            Some(b'#') => spaces > 0,
            Some(_) => false,
        }
    }

    fn at_item(&self) -> bool {
        self.peek() == Some(b'-') && matches!(self.after(1), None | Some(b' ' | b'\n'))
    }

    /// A node below a collection of the column `parent`; `collections`: a block collection may begin here.
    fn node(&mut self, parent: isize, collections: bool) -> Option<Node> {
        match self.peek()? {
            b'|' | b'>' => self.block_scalar(parent),
            b'[' | b'{' => {
                self.margin = parent;
                let node = self.flow()?;
                self.end_line()?;
                Some(node)
            }
            b'-' if self.at_item() => {
                if collections {
                    self.sequence(self.column())
                } else {
                    None
                }
            }
            _ => {
                let (from, column) = (self.at, self.column());
                let scalar = self.scalar(false)?;
                let behind = self.at;
                self.skip_spaces();
                if self.at_colon() {
                    return if collections && self.at - from < LONGEST_KEY {
                        self.mapping(column, scalar)
                    } else {
                        None
                    };
                }
                self.at = behind;
                self.end_line()?;
                let scalar = match scalar {
                    Scalar::Plain(text) => self.continued(text, behind, parent)?,
                    quoted @ Scalar::Quoted(_) => quoted,
                };
                Some(Node { id: self.id(), content: scalar.content() })
            }
        }
    }

    fn at_colon(&self) -> bool {
        self.peek() == Some(b':') && matches!(self.after(1), None | Some(b' ' | b'\n'))
    }

    /// The further lines of a plain scalar whose first line ended at `behind`: those that are indented more than what
    /// it belongs to.
    fn continued(&mut self, mut text: String, mut behind: usize, parent: isize) -> Option<Scalar> {
        while self.indent > parent {
            let gap = &self.bytes[behind..self.line];
            // A comment ends the scalar: what follows it is a fault.
            if gap.contains(&b'#') {
                return None;
            }
            match gap.iter().filter(|&&byte| byte == b'\n').count() {
                1 => text.push(' '),
                breaks => text.extend(std::iter::repeat_n('\n', breaks - 1)),
            }
            let (end, is_key) = self.plain_end(false)?;
            if is_key {
                return None;
            }
            let line = self.text[self.at..end].trim_end_matches(' ');
            text.push_str(line);
            self.at += line.len();
            behind = self.at;
            self.end_line()?;
        }
        Some(Scalar::Plain(text))
    }

    fn mapping(&mut self, column: isize, first: Scalar) -> Option<Node> {
        self.depth = self.depth.checked_sub(1)?;
        let id = self.id();
        let mut pairs = Vec::new();
        let mut key = first;
        loop {
            let key_node = Node { id: self.id(), content: key.content() };
            self.at += 1;
            let value = if self.at_line_end() {
                self.end_line()?;
                if self.indent > column {
                    self.node(column, true)?
                } else if self.indent == column && self.at_item() {
                    self.sequence(column)?
                } else {
                    Node { id: self.id(), content: Content::Null }
                }
            } else {
                self.skip_spaces();
                self.node(column, false)?
            };
            pairs.push((key_node, value));
            if self.indent < column {
                break;
            }
            if self.indent > column {
                return None;
            }
            let from = self.at;
            key = self.scalar(false)?;
            self.skip_spaces();
            if !self.at_colon() || self.at - from >= LONGEST_KEY {
                return None;
            }
        }
        self.depth += 1;
        Some(Node { id, content: Content::Map(pairs) })
    }

    fn sequence(&mut self, column: isize) -> Option<Node> {
        self.depth = self.depth.checked_sub(1)?;
        let id = self.id();
        let mut items = Vec::new();
        loop {
            self.at += 1;
            let item = if self.at_line_end() {
                self.end_line()?;
                if self.indent > column {
                    self.node(column, true)?
                } else {
                    Node { id: self.id(), content: Content::Null }
                }
            } else {
                self.skip_spaces();
                self.node(column, true)?
            };
            items.push(item);
            if self.indent > column {
                return None;
            }
            if self.indent < column || !self.at_item() {
                break;
            }
        }
        self.depth += 1;
        Some(Node { id, content: Content::List(items) })
    }

    /// A scalar of one line.
    fn scalar(&mut self, in_flow: bool) -> Option<Scalar> {
        match self.peek()? {
            b'\'' => self.single_quoted(),
            b'"' => self.double_quoted(),
            b'-' => {
                let next = self.after(1)?;
                if matches!(next, b' ' | b'\n' | b'\t') || in_flow && matches!(next, b',' | b'[' | b']' | b'{' | b'}') {
                    return None;
                }
                self.plain(in_flow)
            }
            b'?' | b':' | b',' | b'[' | b']' | b'{' | b'}' | b'#' | b'&' | b'*' | b'!' | b'|' | b'>' | b'%' | b'@'
            | b'`' | b'\t' | b'\n' | b' ' => None,
            _ => self.plain(in_flow),
        }
    }

    fn plain(&mut self, in_flow: bool) -> Option<Scalar> {
        let (end, _) = self.plain_end(in_flow)?;
        let text = self.text[self.at..end].trim_end_matches(' ');
        self.at += text.len();
        Some(Scalar::Plain(text.to_owned()))
    }

    /// Where a plain scalar ends in this line, spaces behind it included, and whether a colon ends it.
    fn plain_end(&self, in_flow: bool) -> Option<(usize, bool)> {
        let mut at = self.at;
        while let Some(&byte) = self.bytes.get(at) {
            match byte {
                b'\n' => break,
                b'\t' => return None,
                b':' => match self.bytes.get(at + 1) {
                    None | Some(b' ' | b'\n') => return Some((at, true)),
                    Some(b',' | b'?' | b'[' | b']' | b'{' | b'}') if in_flow => return None,
                    Some(_) => {}
                },
                b'#' if at > self.at && self.bytes[at - 1] == b' ' => break,
                b',' | b']' | b'}' if in_flow => break,
                b'[' | b'{' | b'?' if in_flow => return None,
                _ => {}
            }
            at += 1;
        }
        Some((at, false))
    }

    fn single_quoted(&mut self) -> Option<Scalar> {
        let mut text = String::new();
        self.at += 1;
        loop {
            let rest = &self.bytes[self.at..];
            let length = rest.iter().position(|byte| matches!(byte, b'\'' | b'\n' | b'\t'))?;
            if rest[length] != b'\'' {
                return None;
            }
            text.push_str(&self.text[self.at..self.at + length]);
            self.at += length + 1;
            if self.peek() != Some(b'\'') {
                return Some(Scalar::Quoted(text));
            }
            text.push('\'');
            self.at += 1;
        }
    }

    fn double_quoted(&mut self) -> Option<Scalar> {
        let mut text = String::new();
        self.at += 1;
        loop {
            let rest = &self.bytes[self.at..];
            let length = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | b'\n' | b'\t'))?;
            text.push_str(&self.text[self.at..self.at + length]);
            self.at += length + 1;
            match rest[length] {
                b'"' => return Some(Scalar::Quoted(text)),
                b'\\' => {}
                _ => return None,
            }
            text.push(match self.peek()? {
                b'n' => '\n',
                b't' => '\t',
                b'\\' => '\\',
                b'"' => '"',
                _ => return None,
            });
            self.at += 1;
        }
    }

    /// Spaces, line ends and comments between the parts of a flow collection.
    fn skip_in_flow(&mut self) -> Option<()> {
        loop {
            let spaces = self.skip_spaces();
            match self.peek()? {
                b'\n' => {
                    self.at += 1;
                    self.line = self.at;
                    // What stands at the margin may be a marker.
                    if !matches!(self.peek()?, b' ' | b'\n') {
                        return None;
                    }
                }
                b'#' if spaces > 0 => self.at = self.line_end(),
                b'#' | b'\t' => return None,
                // Readers do not agree about lines that stand farther left than what they belong to.
                _ => return (self.column() >= self.margin).then_some(()),
            }
        }
    }

    fn flow(&mut self) -> Option<Node> {
        self.depth = self.depth.checked_sub(1)?;
        let id = self.id();
        let content = if self.peek() == Some(b'[') { self.flow_list()? } else { self.flow_map()? };
        self.depth += 1;
        Some(Node { id, content })
    }

    fn flow_list(&mut self) -> Option<Content> {
        let mut items = Vec::new();
        self.at += 1;
        loop {
            self.skip_in_flow()?;
            if self.peek()? == b']' {
                break;
            }
            items.push(self.flow_item()?);
            if !self.flow_goes_on(b']')? {
                break;
            }
        }
        self.at += 1;
        Some(Content::List(items))
    }

    fn flow_map(&mut self) -> Option<Content> {
        let mut pairs = Vec::new();
        self.at += 1;
        loop {
            self.skip_in_flow()?;
            if self.peek()? == b'}' {
                break;
            }
            let from = self.at;
            let key = self.scalar(true)?;
            self.skip_spaces();
            if !self.at_colon() || self.at - from >= LONGEST_KEY {
                return None;
            }
            let key = Node { id: self.id(), content: key.content() };
            self.at += 1;
            self.skip_in_flow()?;
            pairs.push((key, self.flow_value()?));
            if !self.flow_goes_on(b'}')? {
                break;
            }
        }
        self.at += 1;
        Some(Content::Map(pairs))
    }

    /// An item of a list: a value, or one pair of a mapping without its braces.
    fn flow_item(&mut self) -> Option<Node> {
        if matches!(self.peek()?, b'[' | b'{') {
            return self.flow();
        }
        let from = self.at;
        let scalar = self.scalar(true)?;
        self.skip_spaces();
        if !self.at_colon() {
            return Some(Node { id: self.id(), content: scalar.content() });
        }
        if self.depth == 0 || self.at - from >= LONGEST_KEY {
            return None;
        }
        let id = self.id();
        let key = Node { id: self.id(), content: scalar.content() };
        self.at += 1;
        self.skip_in_flow()?;
        self.depth -= 1;
        let value = self.flow_value()?;
        self.depth += 1;
        Some(Node { id, content: Content::Map(vec![(key, value)]) })
    }

    /// Behind an entry: whether a comma follows, which is passed, or the end, at which it stops.
    fn flow_goes_on(&mut self, end: u8) -> Option<bool> {
        self.skip_in_flow()?;
        match self.peek()? {
            b',' => {
                self.at += 1;
                Some(true)
            }
            byte if byte == end => Some(false),
            _ => None,
        }
    }

    fn flow_value(&mut self) -> Option<Node> {
        if matches!(self.peek()?, b'[' | b'{') {
            return self.flow();
        }
        let content = self.scalar(true)?.content();
        Some(Node { id: self.id(), content })
    }

    fn block_scalar(&mut self, parent: isize) -> Option<Node> {
        let folded = self.peek()? == b'>';
        self.at += 1;
        let chomping = self.peek().filter(|byte| matches!(byte, b'-' | b'+'));
        self.at += usize::from(chomping.is_some());
        if !self.at_line_end() {
            return None;
        }
        self.at = self.line_end() + 1;
        let mut text = String::new();
        let indent = self.block_indent(parent, &mut text)?;
        let mut breaks = 0;
        // Whether the line before began with a space: such lines are not folded.
        let mut before = None;
        while let Some(body) = self.block_line(indent, &mut breaks)? {
            let blank = body.starts_with([' ', '\t']);
            match before {
                Some(blank_before) if !folded || blank_before || blank => text.push('\n'),
                Some(_) if breaks == 0 => text.push(' '),
                _ => {}
            }
            text.extend(std::iter::repeat_n('\n', breaks));
            text.push_str(body);
            breaks = 0;
            before = Some(blank);
        }
        // The last line may end with the file, and has no line end then.
        if chomping != Some(b'-') && self.at <= self.bytes.len() {
            text.push('\n');
        }
        if chomping == Some(b'+') {
            text.extend(std::iter::repeat_n('\n', breaks));
        }
        self.at = self.at.min(self.bytes.len());
        self.seek_line()?;
        (!self.is_marker()).then(|| Node { id: self.id(), content: Content::Text(text) })
    }

    /// The column of a block scalar's first line; the empty lines before it go to the text.
    fn block_indent(&mut self, parent: isize, text: &mut String) -> Option<usize> {
        let mut widest = 0;
        loop {
            let from = self.at;
            let spaces = self.skip_spaces();
            match self.peek()? {
                b'\n' => {
                    text.push('\n');
                    widest = widest.max(spaces);
                    self.at += 1;
                }
                b'\t' => return None,
                _ => {
                    self.at = from;
                    let fits = spaces >= widest && isize::try_from(spaces).is_ok_and(|spaces| spaces > parent.max(0));
                    return fits.then_some(spaces);
                }
            }
        }
    }

    /// The next line of a block scalar with what it has beyond the indentation; counts the empty lines before it. `None`
    /// within when the scalar has ended.
    fn block_line(&mut self, indent: usize, breaks: &mut usize) -> Option<Option<&'t str>> {
        loop {
            let from = self.at;
            if from >= self.bytes.len() {
                return Some(None);
            }
            let mut spaces = 0;
            while spaces < indent && self.after(spaces) == Some(b' ') {
                spaces += 1;
            }
            match self.after(spaces) {
                Some(b'\n') => {
                    *breaks += 1;
                    self.at += spaces + 1;
                }
                Some(b'\t') if spaces < indent => return None,
                None => return Some(None),
                Some(_) if spaces < indent => return Some(None),
                Some(_) => {
                    self.at += spaces;
                    let end = self.line_end();
                    let body = &self.text[self.at..end];
                    self.at = end + 1;
                    return Some(Some(body));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::yaml::load_any;
    use super::read;

    const PLAIN: &[&str] = &[
        "on: push\njobs:\n  a:\n    runs-on: [x, 'y']\n    steps:\n    - run: make\n    - uses: a/b@c\n      with: {a: 1, \"b\": ~}\n",
        "--- # a workflow\n\nname: 'it''s' # said\n\"on\" : \"a\\tb\\\\\\\"\"\nempty:\nlist:\n-\n- - a\n  - b: c\n-\n  d: e\n",
        "a: |\n\n  one\n   two\n\n  # no comment\n\nb: >-\n  one\n  two\n\n  three\n    more\n  four\n\nc: |+\n  x\n\n\nd: >+\n  y\n\ne: |-\n  z",
        "if: a &&\n  b ||\n\n  c # said\nnext: 1\nlast:\n  long\n  text\n",
        "n: [0x1F, 0o17, 007, -0, 1e3, .5, 1_000, 0b1, +0x1, .inf, -.INF, .nan, 12345678901234567890123]\nb: [true, True, yes, Null]\n",
        "schedule: [cron: '0 0 * * *', {a: b}]\nm: {\n  # said\n  a: [1,\n    2],\n  b: c, }\nurl: http://x:80/#y\ndash: -x\n",
        "t: \u{e9}\u{1f680}\n",
    ];

    const RARE: &[&str] = &[
        "",
        "# nothing\n",
        "text\n",
        "- a\n",
        "a: &x b\nc: *x\n",
        "a: !!str 1\n",
        "a:\tb\n",
        "a: b\r\n",
        "? a\n: b\n",
        "a: b: c\n",
        "a: 'two\n  lines'\n",
        "a: \"\\u00e9\"\n",
        "a: b\n---\nc: d\n",
        "a: b\n...\n",
        "%YAML 1.2\n---\na: b\n",
        "a: [b\n",
        "a:\n  b: 1\n c: 2\n",
        "a: |2\n  b\n",
        "a: |\n    \n  b\n",
        "a: @b\n",
        "a: `b`\n",
        "a: [b]c\n",
        "a: {b}\n",
        "[a]: b\n",
        "\u{feff}a: b\n",
        "a: \u{7}\n",
        "a: b\u{85}c: d\n",
        "a: [b,\nc]\n",
        "a: b # c\n  d\n",
        "a: - b\n",
        "a: [b ? c]\n",
        "a: \"b\" c\n",
    ];

    fn both(text: &str) -> (Option<String>, Option<String>) {
        (read(text, 50).map(|root| format!("{root:?}")), load_any(text, 50).ok().map(|root| format!("{root:?}")))
    }

    #[test]
    fn t17_what_is_plain_is_read_as_the_other_reader_does() {
        for text in PLAIN {
            let (plain, any) = both(text);
            assert!(plain.is_some(), "{text}");
            assert_eq!(plain, any, "{text}");
        }
        for text in RARE {
            assert_eq!(read(text, 50).map(|root| format!("{root:?}")), None, "{text:?}");
        }
        let deep = |levels: usize| format!("a: {}{}\n", "[".repeat(levels), "]".repeat(levels));
        assert!(read(&deep(49), 50).is_some() && read(&deep(50), 50).is_none());
        assert!(read(&"- ".repeat(10_000), 50).is_none() && read(&format!("{}:", "k".repeat(2000)), 50).is_none());
    }

    #[test]
    fn t17_broken_texts_are_read_as_the_other_reader_does_or_not_at_all() {
        const BITS: &[&str] = &[
            "\n", " ", "  ", "- ", ": ", "#", " #", "\"", "'", "[", "]", "{", "}", ",", "|", ">-", "\t", "---", "? ",
            "~", "0x1", "é", "\n\n", "\\", "a: b", "+", "null", "\u{2028}", "&a ", "!",
        ];
        let seed = u64::from(std::process::id());
        println!("seed {seed}");
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % (below as u64)).unwrap()
        };
        let mut answered = 0;
        for _ in 0..3000 {
            let mut text = PLAIN[random(PLAIN.len())].to_owned();
            for _ in 0..random(4) {
                let from = text.floor_char_boundary(random(text.len() + 1));
                let to = text.ceil_char_boundary((from + random(6)).min(text.len()));
                let with = if random(3) == 0 { "" } else { BITS[random(BITS.len())] };
                text.replace_range(from..if with.is_empty() { to } else { from }, with);
            }
            let (plain, any) = both(&text);
            answered += usize::from(plain.is_some());
            assert!(plain.is_none() || plain == any, "{text:?}\n{plain:?}\n{any:?}");
        }
        assert!(answered > 500, "{answered}");
    }
}
