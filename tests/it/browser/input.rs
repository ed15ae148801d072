//! What a person does with the mouse and the keyboard.

use serde_json::{Value, json};

use super::tab::{Tab, element};

impl Tab {
    /// Clicks with the mouse on the middle of an element, which must be there and uncovered.
    pub(crate) async fn click(&self, selector: &str) {
        self.click_times(selector, 1).await;
    }

    /// Clicks twice at once.
    pub(crate) async fn double_click(&self, selector: &str) {
        self.click_times(selector, 2).await;
    }

    async fn click_times(&self, selector: &str, count: u32) {
        let (element, what) = (element(selector), format!("{selector} can be clicked"));
        let can_be_clicked = format!(
            "(() => {{ const it = {element}; if (!it || it.disabled) return false; \
             it.scrollIntoView({{ block: 'center' }}); const box = it.getBoundingClientRect(); \
             const at = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2); \
             return it === at || it.contains(at); }})()"
        );
        self.until(&what, &can_be_clicked).await;
        let place = format!(
            "(() => {{ const box = {element}.getBoundingClientRect(); \
             return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        );
        let place = self.value(&place).await;
        for count in 1..=count {
            for kind in ["mousePressed", "mouseReleased"] {
                let event = json!({
                    "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": count
                });
                self.call("Input.dispatchMouseEvent", event).await;
            }
        }
    }

    /// Types a text into a field, instead of what was there.
    pub(crate) async fn type_into(&self, selector: &str, text: &str) {
        self.click(selector).await;
        self.value(&format!("{}.select()", element(selector))).await;
        self.type_text(text).await;
    }

    /// Types a text where the focus is.
    pub(crate) async fn type_text(&self, text: &str) {
        self.call("Input.insertText", json!({ "text": text })).await;
    }

    /// Presses Tab until an element has the focus.
    pub(crate) async fn tab_to(&self, selector: &str) {
        let is_there = format!("document.activeElement.matches({})", json!(selector));
        for _ in 0..60 {
            self.press("Tab").await;
            if self.value(&is_there).await == Value::Bool(true) {
                return;
            }
        }
        panic!("the keyboard does not get to {selector}");
    }

    /// Presses a key.
    pub(crate) async fn press(&self, key: &str) {
        self.key_down(key, false).await;
        self.call("Input.dispatchKeyEvent", key_event("keyUp", key, false)).await;
    }

    /// Begins to press a key, or keeps it down.
    pub(crate) async fn key_down(&self, key: &str, repeats: bool) {
        self.call("Input.dispatchKeyEvent", key_event("keyDown", key, repeats)).await;
    }
}

fn key_event(kind: &str, key: &str, repeats: bool) -> Value {
    let (code, text) = match key {
        "Tab" => (9, ""),
        "Enter" => (13, "\r"),
        "Escape" => (27, ""),
        _ => panic!("no such key"),
    };
    json!({
        "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text,
        "autoRepeat": repeats
    })
}
