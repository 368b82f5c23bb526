//! The boot loaders' files: entries of the Boot Loader Specification, and grub.cfg.

/// Entries of an image at most.
pub(super) const MOST: usize = 256;
/// Menus in one another at most.
const DEPTH: usize = 16;
/// What the Boot Loader Specification calls the architecture.
const ARCHITECTURE: &str = "aa64";

/// A system that can be booted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name in the boot loader's files, or the name of the kernel's file.
    pub(super) id: String,
    pub(super) title: String,
    pub(super) version: String,
    pub(super) kernel: String,
    pub(super) initrd: Vec<String>,
    pub(super) options: String,
    /// The kernel's file is a unified kernel image, with the initrd.
    pub(super) unified: bool,
    /// The volume on which the files are, unless they are on another one.
    pub(super) volume: usize,
}

/// Reads an entry of type 1 of the Boot Loader Specification (uapi-group.org), from the file of this name on a volume.
pub(super) fn bls(name: &str, text: &str, volume: usize) -> Option<Entry> {
    let mut entry = Entry { id: name.strip_suffix(".conf")?.to_owned(), volume, ..Entry::default() };
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let Some((key, value)) = line.split_once([' ', '\t']) else { continue };
        let value = value.trim();
        // Grub has variables of its own in such entries: what they have is not known.
        let known = value.split_whitespace().filter(|word| !word.starts_with('$'));
        match key {
            "title" => entry.title = value.to_owned(),
            "version" => entry.version = value.to_owned(),
            "architecture" if !value.eq_ignore_ascii_case(ARCHITECTURE) => return None,
            "linux" => entry.kernel = value.to_owned(),
            // Grub's form of it has several on a line.
            "initrd" => entry.initrd.extend(known.map(str::to_owned)),
            "options" => {
                for word in known {
                    entry.options.push_str(if entry.options.is_empty() { "" } else { " " });
                    entry.options.push_str(word);
                }
            }
            _ => {}
        }
    }
    // Without a kernel it starts an EFI program.
    (!entry.kernel.is_empty()).then_some(entry)
}

/// Reads the menu of a grub.cfg in its order, those of submenus too, the default first (GNU GRUB manual, "Shell-like
/// scripting"). What a variable has is not known: it is left out.
pub(super) fn grub(text: &str, volume: usize) -> Vec<Entry> {
    let mut menu = Menu { counts: vec![0], ..Menu::default() };
    for line in text.lines() {
        menu.read(&words(line), volume);
        if menu.entries.len() >= MOST {
            break;
        }
    }
    menu.finish();
    let Menu { mut entries, default, .. } = menu;
    // An entry in a submenu has the menus' names or numbers before its own.
    let last = default.rsplit('>').next().unwrap_or_default();
    let is_it = |(place, entry): &(String, Entry)| {
        *place == default || (!last.is_empty() && (entry.id == last || entry.title == last))
    };
    if let Some(at) = entries.iter().position(is_it) {
        let first = entries.remove(at);
        entries.insert(0, first);
    }
    entries.into_iter().map(|(_, entry)| entry).collect()
}

/// What is known of a menu so far.
#[derive(Debug, Default)]
struct Menu {
    /// The entries, with their places: numbers of menus and of the entry in the last one.
    entries: Vec<(String, Entry)>,
    open: Option<(String, Entry)>,
    /// The commands whose `{` has not been closed.
    braces: Vec<String>,
    /// Number of the next entry of each menu that is open.
    counts: Vec<usize>,
    default: String,
}

impl Menu {
    /// Reads a line.
    fn read(&mut self, words: &[String], volume: usize) {
        let Some(command) = words.first() else { return };
        match &**command {
            "menuentry" => {
                // One whose end was not seen ends here.
                self.finish();
                let title = words.get(1).cloned().unwrap_or_default();
                let id = words.iter().position(|word| word == "--id" || word == "$menuentry_id_option");
                let id = id.and_then(|at| words.get(at + 1)).unwrap_or(&title).clone();
                self.open = Some((self.place(), Entry { id, title, volume, ..Entry::default() }));
                self.count();
            }
            "submenu" if self.counts.len() < DEPTH => {
                self.count();
                self.counts.push(0);
            }
            "set" => {
                let value = words.get(1).and_then(|word| word.strip_prefix("default="));
                self.default = value.filter(|value| !value.contains('$')).unwrap_or(&self.default).to_owned();
            }
            "}" => match self.braces.pop().as_deref() {
                Some("menuentry") => self.finish(),
                Some("submenu") if self.counts.len() > 1 => drop(self.counts.pop()),
                _ => {}
            },
            "linux" | "linux16" | "linuxefi" => {
                if let (Some((_, entry)), Some((kernel, options))) =
                    (&mut self.open, words[1..].split_first())
                {
                    entry.kernel.clone_from(kernel);
                    let known = options.iter().filter(|word| !word.contains('$'));
                    entry.options = known.map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
                }
            }
            "initrd" | "initrd16" | "initrdefi" => {
                if let Some((_, entry)) = &mut self.open {
                    entry.initrd = words[1..].iter().filter(|word| !word.contains('$')).cloned().collect();
                }
            }
            _ => {}
        }
        if words.len() > 1 && words.last().is_some_and(|word| word == "{") {
            self.braces.push(command.clone());
        }
    }

    /// Returns the location of the next entry.
    fn place(&self) -> String {
        let (last, menus) = self.counts.split_last().unwrap_or((&0, &[]));
        // A menu's own number is counted by now.
        let menus = menus.iter().map(|count| format!("{}>", count.saturating_sub(1)));
        menus.collect::<String>() + &last.to_string()
    }

    fn count(&mut self) {
        if let Some(count) = self.counts.last_mut() {
            *count += 1;
        }
    }

    /// Adds the open entry, if it starts a kernel of Linux.
    fn finish(&mut self) {
        let open = self.open.take();
        self.entries
            .extend(open.filter(|(_, entry)| !entry.kernel.is_empty() && !entry.kernel.contains('$')));
    }
}

/// Quotes a word of the kernel's command line.
fn quoted(word: &str) -> String {
    if word.contains(char::is_whitespace) {
        format!("\"{}\"", word.replace('"', ""))
    } else {
        word.to_owned()
    }
}

/// Splits a line into words as grub does: quotes hold words together, a backslash takes the next character as it is,
/// and a comment ends it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(chars.next()),
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(open)) if c == open => quote = None,
            (c, None) if c.is_whitespace() || c == ';' => words.extend(word.take()),
            ('#', None) if word.is_none() => break,
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}
