//! No file imports another that imports it, however far around; but a type and its error may.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemUse, UseTree};

/// Where a file or an item is: `["plan", "run", "Run"]`.
type Name = Vec<String>;

/// A file's imports.
#[derive(Default)]
struct Imports {
    /// What it takes, as it is written.
    taken: Vec<Name>,
    /// What it hands on.
    handed_on: Vec<Name>,
}

impl<'ast> Visit<'ast> for Imports {
    fn visit_item(&mut self, item: &'ast Item) {
        // Tests put together what they need.
        let attributes = if let Item::Mod(module) = item { &module.attrs[..] } else { &[] };
        if !attributes.iter().any(is_for_tests) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_public = !matches!(item.vis, syn::Visibility::Inherited);
        let names = if is_public { &mut self.handed_on } else { &mut self.taken };
        flatten(&item.tree, &mut Vec::new(), names);
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let name: Name = path.segments.iter().map(|it| it.ident.to_string()).collect();
        if matches!(&*name[0], "crate" | "self" | "super") && name.len() > 1 {
            self.taken.push(name);
        }
        visit::visit_path(self, path);
    }
}

fn is_for_tests(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
}

fn flatten(tree: &UseTree, before: &mut Name, names: &mut Vec<Name>) {
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            flatten(&path.tree, before, names);
            before.pop();
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, before, names)),
        UseTree::Glob(_) => names.push(before.clone()),
        UseTree::Name(it) if it.ident == "self" => names.push(before.clone()),
        UseTree::Name(it) => names.push([&before[..], &[it.ident.to_string()]].concat()),
        UseTree::Rename(it) => names.push([&before[..], &[it.ident.to_string()]].concat()),
    }
}

/// All files, but those of tests, by the module that they are.
fn files() -> BTreeMap<Name, Imports> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut left, mut found) = (vec![src.clone()], BTreeMap::new());
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let within = path.strip_prefix(&src).unwrap().with_extension("");
        let mut name: Name = within.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        if name.iter().any(|part| part == "tests") {
            continue;
        }
        name.pop_if(|last| last == "mod" || last == "lib");
        let mut imports = Imports::default();
        imports.visit_file(&syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap());
        found.insert(name, imports);
    }
    found
}

/// From the root, what is written in a module; `None` if it is of another crate.
fn absolute(module: &Name, written: &Name, files: &BTreeMap<Name, Imports>) -> Option<Name> {
    let mut base = module.clone();
    let rest = match &*written[0] {
        "crate" => {
            base.clear();
            &written[1..]
        }
        "self" => &written[1..],
        "super" => {
            let up = written.iter().take_while(|part| *part == "super").count();
            base.truncate(base.len().checked_sub(up)?);
            &written[up..]
        }
        _ => &written[..],
    };
    let is_relative = written.len() == rest.len();
    if is_relative && !files.contains_key(&[&base[..], &rest[..1]].concat()) {
        return None;
    }
    base.extend_from_slice(rest);
    Some(base)
}

/// The file that an item comes from, whoever hands it on.
fn origin(item: &Name, files: &BTreeMap<Name, Imports>, depth: usize) -> Option<Name> {
    if files.contains_key(item) {
        return Some(item.clone());
    }
    let (last, module) = item.split_last()?;
    let module = module.to_vec();
    let Some(imports) = files.get(&module) else { return origin(&module, files, depth) };
    let handed_on = imports.handed_on.iter().chain(&imports.taken);
    let source = handed_on
        .filter(|written| written.last() == Some(last))
        .filter_map(|written| absolute(&module, written, files))
        .find(|from| from != item);
    match source {
        Some(source) if depth > 0 => origin(&source, files, depth - 1),
        _ => Some(module),
    }
}

#[test]
fn no_file_imports_one_that_imports_it() {
    let files = files();
    let mut edges: BTreeMap<&Name, BTreeSet<Name>> = BTreeMap::new();
    for (module, imports) in &files {
        // An error may name what it is about.
        if module.last().is_some_and(|last| last == "error") {
            edges.insert(module, BTreeSet::new());
            continue;
        }
        let of_this = imports.taken.iter().filter_map(|written| absolute(module, written, &files));
        let origins = of_this.filter_map(|item| origin(&item, &files, 8));
        edges.insert(module, origins.filter(|it| it != module && !it.is_empty()).collect());
    }
    assert!(edges.values().map(BTreeSet::len).sum::<usize>() > 300, "the code was not found");
    let reached = |from: &Name| {
        let (mut left, mut seen) = (vec![from.clone()], BTreeSet::new());
        while let Some(next) = left.pop() {
            left.extend(edges[&next].iter().filter(|it| seen.insert((*it).clone())).cloned());
        }
        seen
    };
    let circles: Vec<String> = (edges.iter())
        .flat_map(|(module, targets)| targets.iter().map(move |target| (*module, target)))
        .filter(|(module, target)| reached(target).contains(*module))
        .map(|(module, target)| format!("{} -> {}", module.join("/"), target.join("/")))
        .collect();
    assert!(circles.is_empty(), "circles:\n{}", circles.join("\n"));
}
