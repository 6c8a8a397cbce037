// Judging answers with keys: j and k choose one, r says it is right, l and y say what is right and why, x that it is wrong.
"use strict";
(() => {
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const form = document.getElementById("judge"), said = document.getElementById("said"), fields = form.elements;
  const rows = [...document.querySelectorAll("#answers tbody tr")];
  const radios = rows.map((row) => row.querySelector("input"));
  const number = () => radios.findIndex((radio) => radio.checked);
  function mark() { rows.forEach((row, index) => row.classList.toggle("now", index === number())); }
  function choose(index) {
    if (!radios[index]) return;
    radios[index].checked = true;
    rows[index].scrollIntoView({ block: "nearest" });
    mark();
  }
  function answer() {
    if (!fields.origin.value && number() >= 0) {
      const chosen = facts.answers[number()];
      return { origin: chosen.origin, model: chosen.model, first_frame: chosen.first, last_frame: chosen.last, answer: chosen.text, guess: chosen.label };
    }
    return { origin: fields.origin.value || "predict", model: fields.model.value, first_frame: Number(fields.first_frame.value),
      last_frame: Number(fields.last_frame.value), answer: fields.answer.value, guess: fields.label.value };
  }
  function tell(text, bad) { said.textContent = text; said.className = bad ? "problem" : "good"; }
  async function judge(right) {
    const { guess, ...values } = answer();
    if (!values.answer) return tell("Say what the network answered.", true);
    if (!right && !fields.label.value) { fields.label.focus(); return tell("Choose what is right, then say again that it is wrong.", true); }
    if (!right && !fields.why.value.trim()) { fields.why.focus(); return tell("Write why, then say again that it is wrong.", true); }
    try {
      const written = await send("POST", `/correct/${facts.source}`, { ...values, right, label: right ? guess : fields.label.value, why: fields.why.value });
      const row = fields.origin.value ? null : rows[number()];
      if (row) row.querySelector(".judgement").textContent = right ? "right" : `wrong: ${fields.label.selectedOptions[0].textContent}`;
      tell(`Saved: frames ${values.first_frame} to ${values.last_frame}, ${right ? "right" : "wrong"}.${written.of_truth ? " This is a test patient: nothing is trained on it." : ""}`);
      fields.label.value = fields.why.value = "";
      choose(number() + 1);
    } catch (error) { tell(`Not saved: ${error.message}`, true); }
  }
  document.getElementById("right").addEventListener("click", () => judge(true));
  document.getElementById("wrong").addEventListener("click", () => judge(false));
  form.addEventListener("submit", (event) => { event.preventDefault(); judge(false); });
  radios.forEach((radio) => radio.addEventListener("change", mark));
  for (const [key, step] of [["j", 1], ["ArrowDown", 1], ["k", -1], ["ArrowUp", -1]]) keys.add(key, step > 0 ? "Next answer" : "Answer before", () => choose(number() + step));
  keys.add("r", "The answer is right", () => judge(true));
  keys.add("x", "The answer is wrong", () => judge(false));
  keys.add("l", "Choose what is right", () => fields.label.focus());
  keys.add("y", "Write why", () => fields.why.focus());
  keys.add("o", "Open the cine in another tab", () => document.getElementById("open").click());
  for (const field of [fields.why, fields.label]) field.addEventListener("keydown", (event) => { if (event.key === "Escape") field.blur(); });
  mark();
})();
