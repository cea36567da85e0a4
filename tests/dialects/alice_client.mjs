// The client of alice.md (处理流式响应) as it stands, but for the TypeScript types of its two parameters, which
// Node 20 cannot read. Around it is what a page would provide: here it keeps what it is told to show.
//
//     node alice_client.mjs <base URL> <conversation id> <message>     prints {"contents": […], "sources": […]}

const [base, conversationNumber, message] = process.argv.slice(2);
const token = 'none';
const shown = { contents: [], sources: null };
const updateMessageContent = (content) => { shown.contents.push(content); };
const updateSources = (sources) => { shown.sources = sources; };
const fetch = (path, options) => globalThis.fetch(base + path, options); // paths are relative to a page, but Node has none

async function sendMessage(conversationId, content) {
  const response = await fetch(`/api/v1/conversations/${conversationId}/messages/stream`, {
    method: 'POST',
    headers: {
      'Content-Type': 'application/json',
      'Authorization': `Bearer ${token}`,
    },
    body: JSON.stringify({ content }),
  });

  const reader = response.body?.getReader();
  const decoder = new TextDecoder();
  let fullContent = '';

  while (true) {
    const { done, value } = await reader.read();
    if (done) break;

    const chunk = decoder.decode(value);
    const lines = chunk.split('\n');

    for (const line of lines) {
      if (line.startsWith('data: ')) {
        const data = JSON.parse(line.slice(6));
        
        if (data.type === 'content') {
          fullContent += data.delta;
          // 更新 UI
          updateMessageContent(fullContent);
        } else if (data.type === 'sources') {
          // 显示引用来源
          updateSources(data.sources);
        }
      }
    }
  }
}

await sendMessage(Number(conversationNumber), message);
console.log(JSON.stringify(shown));
