// Exchanges the token for a cookie. The token goes into a header, so that no address and no log has
// it.
const form = document.getElementById("form");
const note = document.getElementById("note");
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  note.textContent = "";
  const token = document.getElementById("token").value.trim();
  try {
    const answer = await fetch("/sign-in", {
      headers: { Authorization: `Bearer ${token}` },
      redirect: "manual",
    });
    if (answer.status === 401) note.textContent = "This is not the token.";
    else location.assign("/");
  } catch (error) {
    note.textContent = "The token could not be sent: " + error.message;
  }
});
