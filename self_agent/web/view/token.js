// Asks for the token where the server wants one; whatever was refused goes on by itself afterwards.
import { html } from "htm/preact";
import { useRef } from "preact/hooks";
import { giveToken } from "../api.js";
import { tokenWanted } from "../state.js";
import { say } from "../words.js";
import { Dialog } from "./parts.js";

export function TokenWindow() {
  const field = useRef();
  const wanted = tokenWanted.value;
  if (!wanted) return null;
  const give = (event) => {
    event.preventDefault();
    if (field.current.value.trim()) giveToken(field.current.value);
  };
  return html`<${Dialog} title=${say("tokenTitle")} mustStay onClose=${() => {}}>
    <form onSubmit=${give}>
      <p id="token-about">${say("tokenAbout")}</p>
      ${wanted.refused && html`<p class="bad" role="alert">${say("tokenRefused")}</p>`}
      <input type="password" ref=${field} autocomplete="off" spellcheck="false" aria-label=${say("token")} aria-describedby="token-about" />
      <footer><button type="submit" class="main">${say("tokenGo")}</button></footer>
    </form><//>`;
}
