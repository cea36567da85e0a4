// Drives the server at process.argv[2] with OpenAI's SDK and the AI SDK, and prints what came of it as JSON.
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, streamText } from "ai";
import OpenAI from "openai";

const baseURL = `${process.argv[2]}/v1`;
const found = {};

const sdk = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 });
const first = await sdk.responses.create({ model: "echo", input: "one" });
const stream = sdk.responses.stream({ model: "echo", input: "two", previous_response_id: first.id });
found.pieces = 0;
for await (const event of stream) if (event.type === "response.output_text.delta") found.pieces++;
found.streamed = (await stream.finalResponse()).output_text;
const conversation = await sdk.conversations.create({ metadata: { topic: "demo" } });
await sdk.responses.create({ model: "echo", input: "three", conversation: conversation.id });
found.items = [];
for await (const item of sdk.conversations.items.list(conversation.id, { limit: 1, order: "asc" }))
  found.items.push(item.content[0].text);
found.refused = await sdk.responses.create({ model: "echo", input: "x", prompt: { id: "p" } }).catch((e) => [e.constructor.name, e.param]);
found.unknown = await sdk.responses.retrieve("resp_1").catch((e) => [e.constructor.name]);

const ai = createOpenAI({ baseURL, apiKey: "any" });
const said = await generateText({ model: ai("echo"), prompt: "one" });
found.ai = said.text;
const messages = [{ role: "user", content: "one" }, ...said.response.messages, { role: "user", content: "two" }];
found.referred = (await generateText({ model: ai("echo"), messages })).text;
const providerOptions = { openai: { previousResponseId: said.response.id } };
found.continued = (await generateText({ model: ai("echo"), prompt: "more", providerOptions })).text;
found.aiStreamed = "";
for await (const piece of streamText({ model: ai("echo"), prompt: "three" }).textStream) found.aiStreamed += piece;
found.chat = (await generateText({ model: ai.chat("echo"), prompt: "four" })).text;
console.log(JSON.stringify(found));
