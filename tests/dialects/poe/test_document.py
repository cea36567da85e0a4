"""The examples of poe.md, by section."""

from __future__ import annotations

from flask.testing import FlaskClient

from self_agent.events import Delta, Info
from tests.conftest import MakeApp
from tests.dialects.poe.conftest import ROOT, SECONDS, begin, frames, history, project, say


def test_usage_create_send_history(client: FlaskClient) -> None:
    """完整接口使用示例: 创建新会话, 追加一轮消息并获得回复, 获取历史."""
    created = client.post(ROOT, json={"system_prompt": "You are a helpful assistant."})
    cid = created.json["conversation_id"]
    assert created.json == {"conversation_id": cid}
    answer = say(client, cid, "你好", model="Claude-3.5-Sonnet", headers={"Authorization": "Bearer poe-sk-xxxx"})
    assert answer.status_code == 200
    assert (answer.json["conversation_id"], answer.json["reply"]) == (cid, "echo: 你好")
    assert "你好".encode() in answer.data
    assert client.get(f"{ROOT}/{cid}/messages").json == {
        "conversation_id": cid,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "你好"},
            {"role": "assistant", "content": "echo: 你好"},
        ],
    }


def test_usage_streamed_turns(make_poe: MakeApp) -> None:
    """流式多轮请求示例: frames of content, [DONE] at the end, and the reply is in the history."""
    client = make_poe(script=[Delta("你"), Delta("好"), Info(model="m")]).test_client()
    cid = begin(client)
    answer = say(client, cid, "你好，帮我写个Python冒泡排序。", model="ChatGPT-4o-Latest", stream=True)
    assert answer.headers["Content-Type"] == "text/event-stream"
    first, *rest = frames(answer)
    assert list(first) == ["conversation_id", "session_id", "user_message_id", "assistant_message_id"]
    assert first["conversation_id"] == cid
    assert first["user_message_id"] < first["assistant_message_id"]
    assert rest == [{"content": "你"}, {"content": "好"}, {"content": "", "finish_reason": "stop"}, "[DONE]"]
    assert history(client, cid) == [("user", "你好，帮我写个Python冒泡排序。"), ("assistant", "你好")]


def test_section_1_create_in_project(client: FlaskClient) -> None:
    """创建会话（支持 project_id）: an unknown project is 404, and no body at all is fine."""
    number = project(client, "项目A")
    cid = begin(client, system_prompt="你是一个项目助手。", project_id=number)
    assert client.get(f"{ROOT}/{cid}").json["project_name"] == "项目A"
    unknown = client.post(ROOT, json={"project_id": 99})
    assert (unknown.status_code, unknown.json) == (404, {"detail": "project 99 does not exist"})
    bare = client.get(f"{ROOT}/{client.post(ROOT).json['conversation_id']}").json
    assert (bare["project_id"], bare["project_name"], bare["system_prompt"]) == (0, "其它", None)


def test_section_2_grouped_by_project(client: FlaskClient) -> None:
    """获取所有会话（按项目名分组）: newest first; those of no project, or of a deleted one, are under 其它."""
    assert client.get(f"{ROOT}/grouped").json == {"其它": []}
    first, gone = project(client, "项目A"), project(client, "Gone")
    inside = begin(client, system_prompt="你是一个项目助手。", project_id=first)
    outside = begin(client)
    orphan = begin(client, project_id=gone)
    client.delete(f"/v1/projects/{gone}")
    groups = client.get(f"{ROOT}/grouped").json
    assert {name: [row["conversation_id"] for row in rows] for name, rows in groups.items()} == {
        "项目A": [inside],
        "其它": [orphan, outside],
    }
    [row] = groups["项目A"]
    assert (row["system_prompt"], row["project_id"], row["project_name"]) == ("你是一个项目助手。", first, "项目A")
    assert SECONDS.fullmatch(row["created_at"])
    assert (groups["其它"][1]["system_prompt"], groups["其它"][1]["project_id"]) == (None, 0)


def test_section_3_move_to_project(client: FlaskClient) -> None:
    """更新会话所属项目: what is not given stays, null moves it out again."""
    number, cid = project(client, "P"), begin(client, system_prompt="Be kind.", name="题目")
    answer = client.put(f"{ROOT}/{cid}", json={"project_id": number})
    assert (answer.status_code, answer.json) == (200, {"message": "Conversation updated"})
    row = client.get(f"{ROOT}/{cid}").json
    assert (row["project_id"], row["system_prompt"], row["name"]) == (number, "Be kind.", "题目")
    assert client.put(f"{ROOT}/{cid}", json={"project_id": 99}).status_code == 404
    client.put(f"{ROOT}/{cid}", json={"project_id": None, "name": "new", "system_prompt": None})
    row = client.get(f"{ROOT}/{cid}").json
    assert (row["project_id"], row["system_prompt"], row["name"]) == (0, None, "new")


def test_section_4_delete_conversation(client: FlaskClient) -> None:
    """删除会话: it is gone for every path."""
    cid = begin(client)
    assert client.delete(f"{ROOT}/{cid}").json == {"message": "Conversation deleted"}
    for answer in (client.delete(f"{ROOT}/{cid}"), client.get(f"{ROOT}/{cid}/messages"), say(client, cid, "hi")):
        assert (answer.status_code, answer.json) == (404, {"detail": f"conversation {cid} does not exist"})
