//! The checker of a branch's page numbers: each one ever handed out is used exactly once, or free.

use super::PageReader;
use crate::ids::PageNo;
use crate::meta::META_PAGE;
use crate::page::PageKind;

/// A set of page numbers: a bit for each number up to the greatest, so 16 MiB for a terabyte of pages.
#[derive(Clone, Debug, Default)]
pub struct PageSet {
    words: Vec<u64>,
}

impl PageSet {
    /// Numbers beyond it are kept out: a damaged page may name any, and the set must not grow with them.
    const LIMIT: u64 = 1 << 36;

    /// Adds a number; false when it was there, or cannot be a page's.
    pub fn insert(&mut self, page: PageNo) -> bool {
        if page.0 >= Self::LIMIT {
            return false;
        }
        let (word, bit) = ((page.0 / 64) as usize, 1 << (page.0 % 64));
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let before = self.words[word];
        self.words[word] |= bit;
        before & bit == 0
    }

    /// Whether a number is in it.
    pub fn contains(&self, page: PageNo) -> bool {
        self.words.get((page.0 / 64) as usize).is_some_and(|word| word & (1 << (page.0 % 64)) != 0)
    }
}

/// Adds up who uses which page.
#[derive(Debug)]
pub struct SpaceCheck {
    used: PageSet,
    next_page: PageNo,
}

impl SpaceCheck {
    /// Begins with the meta page and the free lists. A branch without a sound meta page cannot be checked:
    /// that is told, and the answer is `None`.
    pub fn begin<R: PageReader>(
        reader: &R,
        problem: &mut dyn FnMut(PageNo, &'static str) -> Result<(), R::Error>,
    ) -> Result<Option<Self>, R::Error> {
        let meta = reader.page(META_PAGE)?;
        if meta.kind() != PageKind::Meta {
            problem(META_PAGE, "not a meta page")?;
            return Ok(None);
        }
        let mut check = Self { used: PageSet::default(), next_page: meta.next_page() };
        check.add(META_PAGE, problem)?;
        let number = |word: &[u8; 8]| PageNo(u64::from_le_bytes(*word));
        for page in meta.meta_pages().iter().map(number) {
            check.add(page, problem)?;
        }
        let mut free = meta.meta_pages().len() as u64;
        let mut head = meta.free_list_head();
        while let Some(list) = head {
            // A list that runs in a circle meets a page that has been added.
            if !check.add(list, problem)? {
                break;
            }
            let page = reader.page(list)?;
            if page.kind() != PageKind::FreeList {
                problem(list, "not a free-list page")?;
                break;
            }
            for page in page.free_list_pages().iter().map(number) {
                check.add(page, problem)?;
            }
            free += page.free_list_pages().len() as u64;
            head = page.free_list_next();
            free += u64::from(page.free_list_pages().is_empty());
        }
        if free != meta.free_total() {
            problem(META_PAGE, "count of free pages does not match the lists")?;
        }
        Ok(Some(check))
    }

    /// Whether the number was ever handed out.
    pub fn is_known(&self, page: PageNo) -> bool {
        page < self.next_page
    }

    /// Notes a use; false when there was one already.
    pub fn reach(&mut self, page: PageNo) -> bool {
        self.used.insert(page)
    }

    /// Notes a use and tells what is wrong with it; false if anything is.
    pub fn add<E>(
        &mut self,
        page: PageNo,
        problem: &mut dyn FnMut(PageNo, &'static str) -> Result<(), E>,
    ) -> Result<bool, E> {
        if !self.is_known(page) {
            problem(page, "page was never handed out")?;
            return Ok(false);
        }
        if !self.used.insert(page) {
            problem(page, "page is used twice")?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Once all uses are noted: tells of the pages that nobody uses.
    pub fn finish<E>(self, problem: &mut dyn FnMut(PageNo, &'static str) -> Result<(), E>) -> Result<(), E> {
        for page in (0..self.next_page.0).map(PageNo) {
            if !self.used.contains(page) {
                problem(page, "page is lost: neither used nor free")?;
            }
        }
        Ok(())
    }
}

/// Checks that every page number ever handed out is used exactly once: by the meta page, a free list, or
/// one of `in_use` (the pages of all trees and all runs still reserved). Answers what is wrong.
pub fn check_space<R: PageReader>(
    reader: &R,
    in_use: impl IntoIterator<Item = PageNo>,
) -> Result<Vec<(PageNo, &'static str)>, R::Error> {
    let mut problems = Vec::new();
    let mut problem = |page, reason| {
        problems.push((page, reason));
        Ok(())
    };
    if let Some(mut check) = SpaceCheck::begin(reader, &mut problem)? {
        for page in in_use {
            check.add(page, &mut problem)?;
        }
        check.finish(&mut problem)?;
    }
    Ok(problems)
}
