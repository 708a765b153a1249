// The last page: copies the stamp.

const button = document.getElementById("copy");
const status = document.getElementById("copy-status");
const stamp = document.getElementById("stamp");

/** Mark the stamp, so that it can also be copied by hand. */
function mark() {
  const range = document.createRange();
  range.selectNodeContents(stamp);
  const selection = window.getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
}

if (button) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    mark();
    let copied = false;
    try {
      await navigator.clipboard.writeText(stamp.textContent.trim());
      copied = true;
    } catch {
      // Without permission, or without HTTPS, there is only the old way.
      copied = document.execCommand("copy");
    }
    status.textContent = copied ? button.dataset.copied : button.dataset.failed;
    status.className = copied ? "good" : "warn";
  });
}
