// Shows that the page's libraries are found.
import { html } from "htm/preact";
import { render } from "preact";

render(html`<main><h1>self_agent</h1></main>`, document.getElementById("app"));
